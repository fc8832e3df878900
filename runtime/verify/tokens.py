"""Golden vectors of a decoder: run a prompt, keep a fingerprint of all its logits."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from hearth.runtime.model import Model
from hearth.schemas.golden import Ranked, TokensCase

BEST = 5
F32 = NDArray[np.float32]


def tokens_case(model: Model, ids: Sequence[int], count: int) -> TokensCase | None:
    """The case of a prompt and `count` greedy tokens after it; None where the model's logits are not finite.

    Room for all of them is the caller's care.
    """
    session = model.session()
    logits = session.prefill(ids)
    if not np.isfinite(logits).all():
        return None
    first, best = hashlib.sha256(logits.data).hexdigest(), ranked(logits)
    continuation: list[int] = []
    digest = hashlib.sha256()
    for _ in range(count):
        continuation.append(int(logits.argmax()))
        logits = session.decode(continuation[-1])
        if not np.isfinite(logits).all():
            return None
        digest.update(logits.data)
    return TokensCase(tuple(ids), first, best, tuple(continuation), digest.hexdigest())


def ranked(logits: F32) -> tuple[Ranked, ...]:
    """The best tokens, equal ones by id."""
    places = np.argsort(-logits, kind="stable")[:BEST]
    return tuple(Ranked(int(place), float(logits[place])) for place in places)


def differences(found: TokensCase | None, wanted: TokensCase) -> Iterator[str]:
    """What two runs of one prompt do not share."""
    after = f"after {len(wanted.ids)} tokens"
    if found is None:
        yield f"the logits {after} are not finite"
        return
    if found.logits != wanted.logits:
        yield f"the logits {after} differ: best {_words(found.best)}, recorded {_words(wanted.best)}"
    elif found.best != wanted.best:
        yield f"the best tokens {after} are {_words(found.best)}, recorded {_words(wanted.best)}"
    if found.continuation != wanted.continuation:
        yield f"the tokens {after} are {found.continuation}, recorded {wanted.continuation}"
    elif found.continued != wanted.continued:
        yield f"the logits of the {len(wanted.continuation)} tokens that follow {after} differ"


def _words(best: Sequence[Ranked]) -> str:
    return ", ".join(f"{each.id} ({each.logit:.6g})" for each in best[:2])
