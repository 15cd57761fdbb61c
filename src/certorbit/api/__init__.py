"""The HTTP API: dialects, schemas, authentication, errors, one module per resource."""
