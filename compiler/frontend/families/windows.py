"""Sliding windows as families spell them: the window of every layer, 0 where it sees all before it."""

from __future__ import annotations

from collections.abc import Iterable

from hearth.compiler.frontend.fields import Fields
from hearth.compiler.frontend.rotary_names import FULL, SLIDING

Windows = tuple[int, ...]


def no_window(fields: Fields, layers: int) -> Windows:
    """Llama: all layers see everything."""
    return _alike(fields, layers, 0)


def every_layer(fields: Fields, layers: int) -> Windows:
    """Mistral: `sliding_window` holds for all layers; absent means 4096 (as MistralConfig), null none."""
    if "sliding_window" in fields.values:
        return where_given(fields, layers)
    return _alike(fields, layers, 4096)


def where_given(fields: Fields, layers: int) -> Windows:
    """Phi-3: `sliding_window` holds for all layers; absent or null means none."""
    return _alike(fields, layers, fields.optional_integer("sliding_window") or 0)


def later_layers(fields: Fields, layers: int) -> Windows:
    """Qwen2: where `use_sliding_window`, layers from `max_window_layers` on, or as `layer_types` says."""
    window = fields.integer("sliding_window", 4096)
    first = fields.integer("max_window_layers", 28, minimum=0)
    if not fields.flag("use_sliding_window", False) or _is_null(fields, "sliding_window"):
        return _alike(fields, layers, 0)
    return _by_kind(
        window,
        _layer_types(fields, layers) or (SLIDING if n >= first else FULL for n in range(layers)),
    )


def in_turns(fields: Fields, layers: int) -> Windows:
    """Gemma: all but each `sliding_window_pattern`th layer, or as `layer_types` says."""
    window, period = fields.integer("sliding_window"), fields.integer("sliding_window_pattern")
    turns = (FULL if n % period == 0 else SLIDING for n in range(1, layers + 1))
    return _by_kind(window, _layer_types(fields, layers) or turns)


def _by_kind(window: int, kinds: Iterable[str]) -> Windows:
    return tuple(window if kind == SLIDING else 0 for kind in kinds)


def _is_null(fields: Fields, key: str) -> bool:
    return key in fields.values and fields.values[key] is None


def _layer_types(fields: Fields, layers: int) -> tuple[str, ...] | None:
    kinds = fields.strings("layer_types")
    if kinds is None:
        return None
    if len(kinds) != layers:
        raise fields.invalid("layer_types", f"{layers} items, found {len(kinds)}")
    if not set(kinds) <= {FULL, SLIDING}:
        raise fields.unsupported("layer_types", f"{FULL} or {SLIDING}")
    return kinds


def _alike(fields: Fields, layers: int, window: int) -> Windows:
    """One window for all layers; the layer types, where given, must agree."""
    kind = SLIDING if window else FULL
    if not set(_layer_types(fields, layers) or ()) <= {kind}:
        raise fields.unsupported("layer_types", f"{kind} for every layer, as the other keys say")
    return (window,) * layers
