"""Golden vectors of what makes vectors: an encoder's two entries, or a decoder's rows, on given ids."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from hearth.runtime.decoder_vectors import DecoderVectors
from hearth.runtime.encoder import Encoder
from hearth.runtime.text.tokenizer import Encoded
from hearth.schemas.golden import Numbers, VectorCase

FIRST = 8
UNPOOLED = "none"
F32 = NDArray[np.float32]


def vector_case(
    model: Encoder | DecoderVectors, ids: Sequence[int], types: Sequence[int]
) -> VectorCase | None:
    """The case of ids and their types (none: all 0); None where the results are not finite.

    An encoder without pooling has no vector of a text: there `embedding` is that of no numbers.
    """
    text = Encoded(list(ids), list(types) or [0] * len(ids))
    pooled = model.embedding.pooling != UNPOOLED
    embedding = model.embed([text])[0] if pooled else np.empty(0, np.float32)
    hidden = model.hidden(text)
    if not (np.isfinite(embedding).all() and np.isfinite(hidden).all()):
        return None
    return VectorCase(tuple(ids), tuple(types), numbers(embedding), numbers(hidden))


def numbers(values: F32) -> Numbers:
    """An array's record."""
    flat = np.ascontiguousarray(values).reshape(-1)
    first = tuple(float(value) for value in flat[:FIRST])
    return Numbers(values.shape, hashlib.sha256(flat.data).hexdigest(), first)


def vector_differences(found: VectorCase | None, wanted: VectorCase) -> Iterator[str]:
    """What two runs of one text do not share."""
    what = f"a text of {len(wanted.ids)} tokens"
    if found is None:
        yield f"the results of {what} are not finite"
        return
    for name in ("embedding", "hidden"):
        ours, theirs = getattr(found, name), getattr(wanted, name)
        if ours != theirs:
            yield f"the {name} of {what} differs: {_words(ours)}, recorded {_words(theirs)}"


def _words(value: Numbers) -> str:
    shown = ", ".join(f"{each:.6g}" for each in value.first[:3])
    return f"{list(value.shape)} {shown}"
