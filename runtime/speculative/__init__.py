"""Guesses of how a text goes on, verified by the model in one run: the same text in fewer runs.

Leviathan et al., "Fast inference from transformers via speculative decoding" (2023), without its changed draws: each
token is chosen from the model's own logits, as it would be without guesses.
"""
