"""What tests share: import it as `support` (pyproject puts `tests` on pytest's path)."""
