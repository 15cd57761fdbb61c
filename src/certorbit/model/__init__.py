"""The pure rules: identifiers, entries and versions, commands, operations, backoff, rights. No I/O, no framework."""
