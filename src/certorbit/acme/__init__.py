"""Our own async RFC 8555 client."""
