"""Revocation lists: downloaded, checked, kept once for all certificates that name them."""
