"""Texts and ids: tokenizer, chat template, and back to text piece by piece."""
