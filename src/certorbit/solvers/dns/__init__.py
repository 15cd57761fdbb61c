"""DNS providers (`ports.dns.DNSZoneWriter`), one module each; `registry.py` has the table of them."""
