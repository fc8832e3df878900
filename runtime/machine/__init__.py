"""The machine that a model runs on: cores, memory, limits, energy; what a caller asks of them."""
