"""Recipes with goldens: compile each, and say which part of what it gives is no longer what was recorded."""
