"""Sliding windows as families spell them; every layer must have the same."""

from __future__ import annotations

from hearth.compiler.frontend.fields import Fields

FULL, SLIDING = "full_attention", "sliding_attention"


def no_window(fields: Fields, layers: int) -> int:
    """Llama: all layers see everything."""
    _uniform(fields, layers, FULL)
    return 0


def every_layer(fields: Fields, layers: int) -> int:
    """Mistral: `sliding_window` holds for all layers; absent means 4096 (as MistralConfig), null none."""
    if "sliding_window" in fields.values:
        return where_given(fields, layers)
    _uniform(fields, layers, SLIDING)
    return 4096


def where_given(fields: Fields, layers: int) -> int:
    """Phi-3: `sliding_window` holds for all layers; absent or null means none."""
    window = fields.optional_integer("sliding_window") or 0
    _uniform(fields, layers, SLIDING if window else FULL)
    return window


def later_layers(fields: Fields, layers: int) -> int:
    """Qwen2: where `use_sliding_window`, layers from `max_window_layers` on, or as `layer_types` says."""
    window = fields.integer("sliding_window", 4096)
    first = fields.integer("max_window_layers", 28, minimum=0)
    if not fields.flag("use_sliding_window", False) or _is_null(fields, "sliding_window"):
        _uniform(fields, layers, FULL)
        return 0
    kinds = _layer_types(fields, layers)
    if kinds is None:
        kinds = {kind for kind, any_ in ((FULL, first > 0), (SLIDING, first < layers)) if any_}
    if len(kinds) > 1:
        key = "layer_types" if fields.values.get("layer_types") else "max_window_layers"
        raise fields.unsupported(key, "the same window in every layer")
    return window if kinds == {SLIDING} else 0


def _is_null(fields: Fields, key: str) -> bool:
    return key in fields.values and fields.values[key] is None


def _layer_types(fields: Fields, layers: int) -> set[str] | None:
    kinds = fields.strings("layer_types")
    if kinds is None:
        return None
    if len(kinds) != layers:
        raise fields.invalid("layer_types", f"{layers} items, found {len(kinds)}")
    if not set(kinds) <= {FULL, SLIDING}:
        raise fields.unsupported("layer_types", f"{FULL} or {SLIDING}")
    return set(kinds)


def _uniform(fields: Fields, layers: int, kind: str) -> None:
    """The layer types, where given, must agree with the other keys."""
    kinds = _layer_types(fields, layers)
    if kinds is not None and kinds != {kind}:
        raise fields.unsupported("layer_types", f"{kind} for every layer, as the other keys say")
