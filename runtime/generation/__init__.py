"""Texts written by a model: one or several, to their end or on in a full context."""
