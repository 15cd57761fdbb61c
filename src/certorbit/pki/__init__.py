"""Pure functions over `cryptography`: PEM, facts of a certificate, chains, keys, requests, stores. No I/O."""
