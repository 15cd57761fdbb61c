"""The built-in certificate authority, an issuer like any other.

`authority` keeps the root, the issuing certificate and what was issued; `issuer` is its door for the workflows;
`certificates` and `revocation_list` build what is signed; `request` reads what is asked; `name_limits` says for which
names.
"""
