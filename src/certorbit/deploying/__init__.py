"""What use-cases and workflows share of deployment: how one is started, and what targets keep in the store."""
