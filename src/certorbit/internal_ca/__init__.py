"""The built-in certificate authority, an issuer like any other."""
