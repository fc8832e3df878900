"""Archive to tokens; imports nothing of the compiler."""

from typing import TYPE_CHECKING, Any

from hearth.schemas import __version__

if TYPE_CHECKING:
    from hearth.runtime.adapters import Adapter, AdapterUse
    from hearth.runtime.batch import Turn, decode_together, step
    from hearth.runtime.contexts import Context, load_context, save_context
    from hearth.runtime.conversation import Conversation
    from hearth.runtime.encoder import Encoder
    from hearth.runtime.graph_model import GraphModel
    from hearth.runtime.loader import load, load_any, load_encoder, load_graph
    from hearth.runtime.model import Model
    from hearth.runtime.prefix_cache import PrefixCache
    from hearth.runtime.session import Session
    from hearth.runtime.snapshot import Snapshot
    from hearth.runtime.writing import Full

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
    **dict.fromkeys(("Context", "load_context", "save_context"), "contexts"),
    **dict.fromkeys(("Adapter", "AdapterUse"), "adapters"),
    "Conversation": "conversation",
    "Encoder": "encoder",
    "Full": "writing",
    "GraphModel": "graph_model",
    "Model": "model",
    "PrefixCache": "prefix_cache",
    "Session": "session",
    "Snapshot": "snapshot",
}


def __getattr__(name: str) -> Any:
    """The native core is loaded with the first model, not with `import hearth.runtime`."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
