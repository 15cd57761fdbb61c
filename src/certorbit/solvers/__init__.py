"""Proofs of control over an identifier (RFC 8555 §8)."""
