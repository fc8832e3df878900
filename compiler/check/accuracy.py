"""How far an archive is from its source: errors, divergence, agreement; and the gate that may refuse it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hearth.schemas.errors import LimitError
from hearth.schemas.recipe import Gate

F32 = NDArray[np.float32]


@dataclass(frozen=True)
class Figures:
    """One input, or all of them. What its kind of model does not have is None.

    `max_error` is the largest difference of two outputs, `largest` the source's largest output, so that the relative
    error is their quotient. Decoders: Kullback-Leibler divergence of the next token in nats (of the source's
    distribution from the archive's), and the share of positions whose best token is the same. Encoders: the cosine.
    """

    name: str
    rows: int
    max_error: float
    largest: float
    kld_mean: float | None = None
    kld_max: float | None = None
    top1: float | None = None
    cosine: float | None = None

    @property
    def relative(self) -> float:
        """max_error over the source's largest output."""
        return self.max_error / self.largest if self.largest else self.max_error


@dataclass(frozen=True)
class Accuracy:
    """Every input, and all together: the worst of errors and cosines, means over all rows."""

    inputs: tuple[Figures, ...]
    total: Figures


def logits_figures(name: str, source: F32, found: F32) -> Figures:
    """Of logits [T, V] at the same positions."""
    divergence = np.array([kld(p, q) for p, q in zip(source, found, strict=True)])
    errors = (_largest(q - p) for p, q in zip(source, found, strict=True))  # never a matrix of them
    return Figures(
        name=name,
        rows=len(source),
        max_error=max(errors),
        largest=max(map(_largest, source)),
        kld_mean=float(divergence.mean()),
        kld_max=float(divergence.max()),
        top1=float((source.argmax(axis=1) == found.argmax(axis=1)).mean()),
    )


def kld(source: F32, found: F32) -> float:
    """KL(softmax(source) || softmax(found)) of one row of logits, in nats, in float64."""
    p, q = (_log_softmax(row.astype(np.float64)) for row in (source, found))
    return max(float(np.exp(p) @ (p - q)), 0.0)


def _log_softmax(row: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = row - row.max()
    return np.asarray(shifted - np.log(np.exp(shifted).sum()))


def vector_figures(name: str, source: F32, found: F32) -> Figures:
    """Of two vectors [E], or of rows of them."""
    a, b = source.astype(np.float64).ravel(), found.astype(np.float64).ravel()
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    cosine = float(a @ b) / lengths if lengths else float(np.array_equal(a, b))
    return Figures(name, 1, _largest(found - source), _largest(source), cosine=cosine)


def array_figures(name: str, source: NDArray[np.generic], found: NDArray[np.generic]) -> Figures:
    """Of two numeric arrays of one shape; where both are NaN, or the same infinity, they agree."""
    a, b = source.astype(np.float64), found.astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        errors = np.where(same, 0.0, np.abs(a - b))
    errors = np.where(np.isnan(errors), np.inf, errors)
    return Figures(name, a.size, _largest(errors), _largest(a[np.isfinite(a)]))


def _largest(values: NDArray[np.floating]) -> float:
    return float(np.abs(values).max(initial=0.0))


def accuracy(inputs: Iterable[Figures]) -> Accuracy:
    """All inputs together."""
    found = tuple(inputs)
    return Accuracy(
        found,
        Figures(
            name="all",
            rows=sum(each.rows for each in found),
            max_error=max((each.max_error for each in found), default=0.0),
            largest=max((each.largest for each in found), default=0.0),
            kld_mean=_mean(found, [each.kld_mean for each in found]),
            kld_max=_worst([each.kld_max for each in found], max),
            top1=_mean(found, [each.top1 for each in found]),
            cosine=_worst([each.cosine for each in found], min),
        ),
    )


def _mean(found: Sequence[Figures], values: Sequence[float | None]) -> float | None:
    """Weighed by rows."""
    pairs = [
        (value, each.rows) for value, each in zip(values, found, strict=True) if value is not None
    ]
    rows = sum(count for _, count in pairs)
    return sum(value * count for value, count in pairs) / rows if rows else None


def _worst(values: Sequence[float | None], of: Callable[[Sequence[float]], float]) -> float | None:
    known = [value for value in values if value is not None]
    return of(known) if known else None


def require(found: Accuracy, gate: Gate) -> None:
    """Refuses what misses the gate: LimitError check.accuracy, which names every bound missed."""
    total = found.total
    bounds = [
        ("max_error", total.relative, gate.max_error, False),
        ("max_kld", total.kld_mean, gate.max_kld, False),
        ("min_top1", total.top1, gate.min_top1, True),
    ]
    missed = [
        f"{name} {value:.6g} ({'at least' if least else 'at most'} {bound:g})"
        for name, value, bound, least in bounds
        if value is not None
        and bound is not None
        and (not value >= bound if least else not value <= bound)
    ]
    if gate.asks and not found.inputs:
        missed.append("nothing could be compared")
    if missed:
        raise LimitError(
            "check.accuracy",
            f"the compiled model is further from its source than allowed: {', '.join(missed)}",
            remedy="use finer weights (int8, smaller groups), float KV, or a wider limit",
        )
