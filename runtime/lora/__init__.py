"""Adapters as an archive holds them: described, bound to an engine, listed and removed."""
