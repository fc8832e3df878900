"""Adapters: the record of an archive's linears, and PEFT directories packed for it."""
