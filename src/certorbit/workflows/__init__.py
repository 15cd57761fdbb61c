"""Durable work: the engine (DBOS behind our interface) and the workflows that run on it."""
