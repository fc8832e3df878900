"""Archive to tokens; imports nothing of the compiler."""

from typing import TYPE_CHECKING, Any

from hearth.schemas import __version__

if TYPE_CHECKING:
    from hearth.runtime.adapters import Adapter, AdapterUse
    from hearth.runtime.batch import Turn, decode_together, step
    from hearth.runtime.contexts.conversation import Conversation
    from hearth.runtime.contexts.prefix_cache import PrefixCache
    from hearth.runtime.contexts.saved import Context, load_context, save_context
    from hearth.runtime.contexts.snapshot import Snapshot
    from hearth.runtime.encoder import Encoder
    from hearth.runtime.generation.writing import Full
    from hearth.runtime.graphs.model import GraphModel
    from hearth.runtime.loader import load, load_any, load_encoder, load_graph
    from hearth.runtime.model import Model
    from hearth.runtime.session import Session

__all__ = [
    "Adapter",
    "AdapterUse",
    "Context",
    "Conversation",
    "Encoder",
    "Full",
    "GraphModel",
    "Model",
    "PrefixCache",
    "Session",
    "Snapshot",
    "Turn",
    "__version__",
    "decode_together",
    "load",
    "load_any",
    "load_context",
    "load_encoder",
    "load_graph",
    "save_context",
    "step",
]

_PLACES = {
    **dict.fromkeys(("load", "load_any", "load_encoder", "load_graph"), "loader"),
    **dict.fromkeys(("Turn", "decode_together", "step"), "batch"),
    **dict.fromkeys(("Context", "load_context", "save_context"), "contexts.saved"),
    **dict.fromkeys(("Adapter", "AdapterUse"), "adapters"),
    "Conversation": "contexts.conversation",
    "Encoder": "encoder",
    "Full": "generation.writing",
    "GraphModel": "graphs.model",
    "Model": "model",
    "PrefixCache": "contexts.prefix_cache",
    "Session": "session",
    "Snapshot": "contexts.snapshot",
}


def __getattr__(name: str) -> Any:
    """The native core is loaded with the first model, not with `import hearth.runtime`."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
