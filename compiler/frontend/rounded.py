"""Cosines, sines and powers as float32 that are the same whatever C library and CPU computes them.

C libraries differ in the last bit of a float64 (glibc's own variants with and without FMA do), which moves a float32
about once in 2^28 values. Values so near to the middle of two float32 that this could matter are taken from decimal
arithmetic, which is done in integers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal, localcontext

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
DOUBT = 2.0**-50  # relative: four units in the last place, more than any C library is wrong by
DIGITS = 60
PI = Decimal(
    "3.14159265358979323846264338327950288419716939937510582097494459230781640628620899862803482534"
)


@dataclass(frozen=True)
class Function:
    """`fast` by the C library, `exact` in decimals."""

    fast: Callable[[float], float]
    exact: Callable[[float], Decimal]

    def __call__(self, arguments: Sequence[float]) -> F32:
        """f32 of every argument, in order."""
        values = np.fromiter(map(self.fast, arguments), np.float64, len(arguments))
        with np.errstate(over="ignore"):
            found = values.astype(np.float32)
            low, high = ((values * (1 + sign * DOUBT)).astype(np.float32) for sign in (-1, 1))
        for place in np.nonzero(low != high)[0].tolist():
            found[place] = np.float32(float(self._decimal(arguments[place])))
        return found

    def _decimal(self, argument: float) -> Decimal:
        with localcontext(Context(prec=DIGITS)):
            return self.exact(argument)


def _series(angle: Decimal, first: int) -> Decimal:
    """Taylor's series from the power `first`, 0 of the cosine or 1 of the sine."""
    rest = angle % (2 * PI)
    term = rest if first else Decimal(1)
    total, power = Decimal(0), first
    while abs(term) > Decimal(10) ** -(DIGITS - 10):
        total += term
        term = -term * rest * rest / ((power + 1) * (power + 2))
        power += 2
    return total


COS = Function(math.cos, lambda angle: _series(Decimal(angle), 0))
SIN = Function(math.sin, lambda angle: _series(Decimal(angle), 1))


def power_of(base: float) -> Function:
    """base ** x, above 0."""
    return Function(lambda x: math.pow(base, x), lambda x: Decimal(base) ** Decimal(x))
