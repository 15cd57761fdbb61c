"""Alembic's scripts. `storage.migrate` runs them; there is no ini file."""
