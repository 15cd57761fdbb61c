"""Sealing of private keys, and where key-encryption keys come from."""
