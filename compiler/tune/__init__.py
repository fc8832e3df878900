"""Factors of channels and gains of norms, fitted end to end to what the float model says."""
