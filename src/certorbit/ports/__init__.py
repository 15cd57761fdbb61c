"""Protocols with their obligations in prose. Adapters implement them, `app` joins them."""
