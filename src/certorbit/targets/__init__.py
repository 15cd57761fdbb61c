"""Targets: load balancers that certificates are put on, one file (or folder) each (docs/how-to-add-a-target.md)."""
