"""OpenID Connect: a relying party with the authorization code flow and PKCE, and nothing else of it."""
