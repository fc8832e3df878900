"""Judging: where a scheme loses precision, how many bits each tensor is given, and gates that an archive must pass."""
