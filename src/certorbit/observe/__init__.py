"""Logs, metrics, audit: what the service says of itself. Anyone may import it."""
