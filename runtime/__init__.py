"""Archive to tokens; imports nothing of the compiler."""

from hearth.schemas import __version__

__all__ = ["__version__"]
