"""Archive to tokens; imports nothing of the compiler."""

from typing import TYPE_CHECKING, Any

from hearth.schemas import __version__

if TYPE_CHECKING:
    from hearth.runtime.loader import load
    from hearth.runtime.model import Model
    from hearth.runtime.session import Session

__all__ = ["Model", "Session", "__version__", "load"]

_PLACES = {"load": "loader", "Model": "model", "Session": "session"}


def __getattr__(name: str) -> Any:
    """The native core is loaded with the first model, not with `import hearth.runtime`."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
