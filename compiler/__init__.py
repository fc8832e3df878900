"""Checkpoint to archive."""

from hearth.schemas import __version__

__all__ = ["__version__"]
