"""Two tokenizer.json files: vocabulary, merges, added tokens, and the steps around the model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from hearth.runtime.diff.fields import field_changes
from hearth.runtime.diff.findings import Change

Plain = Mapping[str, Any]


def parse(data: bytes | memoryview) -> Any:
    """JSON as plain data; None where it is none, or nested too deep."""
    try:
        return json.loads(bytes(data))
    except (ValueError, RecursionError):
        return None


def tokenizer_changes(a: Plain, b: Plain) -> Iterator[Change]:
    """Entries by their text, merges by their order, the rest field by field."""
    yield from _vocabulary(_ids(_model(a).get("vocab")), _ids(_model(b).get("vocab")))
    yield from _merges(_model(a).get("merges"), _model(b).get("merges"))
    added = "added_tokens"
    yield from field_changes(_added(a.get(added)), _added(b.get(added)), added)
    yield from field_changes(_rest(a), _rest(b))


def _model(tokenizer: Plain) -> Plain:
    found = tokenizer.get("model")
    return found if isinstance(found, dict) else {}


def _ids(vocabulary: Any) -> dict[str, Any]:
    """Texts with their ids; a list of [text, score] has its places as ids, and scores beside them."""
    if isinstance(vocabulary, dict):
        return vocabulary
    if not isinstance(vocabulary, list):
        return {}
    return {
        str(item[0]): [place, *item[1:]]
        for place, item in enumerate(vocabulary)
        if isinstance(item, list) and item
    }


def _vocabulary(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[Change]:
    for text in {**a, **b}:
        if a.get(text) != b.get(text):
            yield Change(f"vocab {json.dumps(text, ensure_ascii=False)}", a.get(text), b.get(text))


def _merges(a: Any, b: Any) -> Iterator[Change]:
    if a == b or not (isinstance(a, list) and isinstance(b, list)):
        if a != b:
            yield Change("merges", _count(a), _count(b))
        return
    ours, theirs = (
        {json.dumps(pair, ensure_ascii=False): rank for rank, pair in enumerate(each)}
        for each in (a, b)
    )
    changed = [pair for pair in {**ours, **theirs} if ours.get(pair) != theirs.get(pair)]
    came = [pair for pair in changed if pair not in ours or pair not in theirs]
    # where some came or went, the ranks behind them shift: that says nothing
    yield from (
        Change(f"merge {pair}", ours.get(pair), theirs.get(pair)) for pair in came or changed
    )


def _count(merges: Any) -> Any:
    return f"{len(merges)} merges" if isinstance(merges, list) else merges


def _added(tokens: Any) -> Any:
    """Added tokens by id."""
    if not isinstance(tokens, list) or not all(isinstance(each, dict) for each in tokens):
        return tokens
    return {str(each.get("id")): each for each in tokens}


def _rest(tokenizer: Plain) -> dict[str, Any]:
    """Normaliser, pre-tokenizer, post-processor, decoder, and the model's own settings."""
    rest = {key: value for key, value in tokenizer.items() if key not in ("added_tokens", "model")}
    model = {k: v for k, v in _model(tokenizer).items() if k not in ("vocab", "merges")}
    return rest | {"model": model}
