"""Tables do not depend on the C library: decimals decide where its last bit could."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal

import numpy as np
import pytest

from hearth.compiler.frontend.rounded import COS, DOUBT, SIN, Function, power_of

ANGLES = [0.0, 1e-30, 0.5, math.pi / 2, 3.0, 100.25, 4096.5, 123456.0, 16777215.0]
CASES: dict[str, tuple[Function, Callable[[float], float]]] = {
    "cos": (COS, math.cos),
    "sin": (SIN, math.sin),
    "power": (power_of(10000.0), lambda x: math.pow(10000.0, x / 2e7)),
}


@pytest.mark.parametrize("name", CASES)
def test_values_are_the_librarys_rounded_once(name: str) -> None:
    function, plain = CASES[name]
    arguments = [x / 2e7 for x in ANGLES] if name == "power" else ANGLES
    expected = np.array([plain(x) for x in ANGLES], np.float32)
    assert np.array_equal(function(arguments), expected)


@pytest.mark.parametrize("name", CASES)
def test_decimals_agree_to_the_last_bits_of_a_double(name: str) -> None:
    function, plain = CASES[name]
    for angle in ANGLES:
        argument = angle / 2e7 if name == "power" else angle
        exact = float(function._decimal(argument))
        assert math.isclose(exact, plain(angle), rel_tol=DOUBT / 2, abs_tol=1e-48)


@pytest.mark.parametrize("units", [-2, -1, 1, 2])
def test_a_library_wrong_in_its_last_bits_changes_nothing(units: int) -> None:
    """Also where the true value lies right between two float32."""
    middle = 1 + 2.0**-24  # between 1 and the next float32

    def near(offset: float) -> Function:
        wrong = math.nextafter(middle, math.inf) - middle
        return Function(lambda x: x + units * wrong, lambda x: Decimal(middle) + Decimal(offset))

    assert near(1e-20)([middle])[0] == np.float32(1)  # as float64 the middle itself: to even
    assert near(1e-15)([middle])[0] == np.nextafter(np.float32(1), np.float32(2))
    assert near(-1e-15)([middle])[0] == np.float32(1)
