"""Use-cases: one transaction each, milliseconds, no network."""
