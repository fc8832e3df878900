"""What the compiler and the runtime agree on: the archive format, its JSON Schemas and their typed mirrors."""

__version__ = "0.1.0"
