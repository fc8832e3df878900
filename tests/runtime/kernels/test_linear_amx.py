"""The cuts of the AMX linears: blocks of 32 rows and their tails, panels, parts of K, several passes over the rows."""

from __future__ import annotations

import numpy as np
import pytest
from support.kernels import kernel_id, need
from support.linears import Case, integer_reference, make_problem, records, run

from hearth.runtime import native
from hearth.schemas.commands import Activation, Layout

ROWS = [kernel for kernel in native.kernels() if kernel.isa == "amx"]
kernels = pytest.mark.parametrize("kernel", ROWS, ids=kernel_id)
SWIGLU = Activation.SWIGLU


def check(kernel: native.Kernel, case: Case, *threads: int) -> None:
    need(kernel)
    problem = make_problem(case, Layout(kernel.variant))
    expected = integer_reference(problem)
    for count in threads:
        assert np.array_equal(run(kernel, problem, count), expected), (case, count)


@kernels
def test_every_number_of_rows(kernel: native.Kernel) -> None:
    for rows in range(1, 71):
        check(kernel, Case("rows", rows, 48, 128, bias=True), 1, 2)


@kernels
@pytest.mark.parametrize("group", [32, 64, 128])
def test_tails_of_channels_and_values(kernel: native.Kernel, group: int) -> None:
    """Panels of one block, blocks that are not full, K that ends anywhere; threads without work."""
    if group != 32 and Layout(kernel.variant) is Layout.Q8B16:
        pytest.skip("int8 has no groups")
    for n in (1, 16, 17, 33, 50, 97):
        for k in (1, 63, 65, 130, 576):
            check(kernel, Case("tails", 37, n, k, group, residual=True), 1, 3)


@kernels
def test_parts_of_k(kernel: native.Kernel) -> None:
    """One part, two that are not equal, many; with one block of rows the sums stay in their tiles."""
    for rows in (9, 32, 45):
        for k in (512, 576, 960, 1088, 4864):
            check(kernel, Case("parts", rows, 48, k), 1)


@kernels
def test_pairs(kernel: native.Kernel) -> None:
    for rows in (10, 30, 65):
        for columns in (1, 16, 40):
            case = Case("pairs", rows, 2 * columns, 192, bias=True, activation=SWIGLU)
            check(kernel, case, 1, 2, 3)


@kernels
def test_rows_in_several_passes(kernel: native.Kernel) -> None:
    """Where K is so large that only 32 rows at a time stay in the cache, and 160."""
    check(kernel, Case("passes", 75, 16, 30000), 1)
    check(kernel, Case("passes", 345, 16, 8192, residual=True), 2)


@kernels
def test_extremes(kernel: native.Kernel) -> None:
    check(kernel, Case("extreme", 50, 48, 1024, extreme=True), 1)


@kernels
def test_the_residual_may_be_the_result(kernel: native.Kernel) -> None:
    """Rows that two blocks compute are added once."""
    need(kernel)
    problem = make_problem(Case("in place", 43, 40, 96, residual=True), Layout(kernel.variant))
    x, y = records(problem.codes, problem.x_scale), problem.residual.copy()
    weights = np.zeros(problem.packed.size + 64, np.uint8)
    weights = weights[-weights.ctypes.data % 64 :][: problem.packed.size]
    weights[:] = problem.packed
    aligned = np.zeros(x.size + 64, np.uint8)
    aligned = aligned[-aligned.ctypes.data % 64 :][: x.size]
    aligned[:] = x.reshape(-1)
    group = 0 if Layout(kernel.variant) is Layout.Q8B16 else 32
    ints = [40, 96, kernel.variant, group, 0]
    strides = [x.shape[1], 0, 0, 160, 160]
    native.call(kernel.name, [aligned, weights, None, y, y], strides, ints, [], rows=43, tokens=43)
    assert np.array_equal(y, integer_reference(problem))
