"""How far the predictions of one model are from those of another, its float original say, on the same tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from hearth.runtime.evaluation.perplexity import Perplexity, standard_error, summary
from hearth.runtime.evaluation.scoring import F64, Ids, each_row, log_probabilities
from hearth.runtime.evaluation.windows import Window
from hearth.runtime.session import Logits, Reader

StateT = TypeVar("StateT")
OtherT = TypeVar("OtherT")


@dataclass(frozen=True)
class Comparison:
    """Over all scored tokens: Kullback-Leibler divergence KL(reference || model) in nats, its mean and 99th percentile,
    the share of tokens whose most likely next token is the same, and the largest difference of two probabilities.

    Errors are standard errors over the windows; that of the increase is of both models on the same windows, which is
    far smaller than those of the two perplexities.
    """

    model: Perplexity
    reference: Perplexity
    kld: float
    kld_99: float
    top1: float
    max_difference: float
    increase_error: float
    kld_error: float
    top1_error: float

    @property
    def increase(self) -> float:
        """Of the perplexity, as a fraction: 0.05 is 5 % more."""
        return self.model.value / self.reference.value - 1


@dataclass(frozen=True)
class Rows:
    """What some rows of logits of both models come to, each f64[n]."""

    nats: F64
    reference_nats: F64
    kld: F64
    same_top: F64
    difference: F64

    def last(self, count: int) -> Rows:
        """The last rows alone."""
        return Rows(*(getattr(self, name)[-count:] for name in self.__dataclass_fields__))


def compare(
    model: Reader[StateT],
    reference: Reader[OtherT],
    texts: Sequence[Window],
    advance: Callable[[int], None],
) -> Comparison:
    """Both models over windows, side by side."""
    found, chunk = [], min(model.chunk, reference.chunk)
    for window in texts:
        ids = window.ids
        pairs = zip(each_row(model, ids, chunk), each_row(reference, ids, chunk), strict=True)
        rows = _joined([_rows(a, b, following) for (a, following), (b, _) in pairs])
        found.append(rows.last(window.scored))
        advance(len(ids))
    everything = _joined(found)
    model_total = summary([rows.nats for rows in found])
    reference_total = summary([rows.reference_nats for rows in found])
    ratio = model_total.value / reference_total.value
    return Comparison(
        model_total,
        reference_total,
        float(everything.kld.mean()),
        float(np.quantile(everything.kld, 0.99)),
        float(everything.same_top.mean()),
        float(everything.difference.max()),
        ratio * _error([rows.nats - rows.reference_nats for rows in found]),
        _error([rows.kld for rows in found]),
        _error([rows.same_top for rows in found]),
    )


def _error(parts: Sequence[F64]) -> float:
    return standard_error(np.array([part.mean() for part in parts]))


def _rows(logits: Logits, reference: Logits, following: Ids) -> Rows:
    p, q = log_probabilities(reference), log_probabilities(logits)
    rows = np.arange(len(following))
    wanted, given = np.exp(p), np.exp(q)
    return Rows(
        -q[rows, following],
        -p[rows, following],
        (wanted * (p - q)).sum(axis=1),
        (logits.argmax(axis=1) == reference.argmax(axis=1)).astype(np.float64),
        np.abs(wanted - given).max(axis=1),
    )


def _joined(parts: Sequence[Rows]) -> Rows:
    """All of them as one."""
    return Rows(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in Rows.__dataclass_fields__
        )
    )
