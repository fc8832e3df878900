"""Calibration: a text is run through the float graph block by block; what its linears read decides codes and ranges."""
