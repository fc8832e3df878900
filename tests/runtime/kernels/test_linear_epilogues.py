"""Every linear kernel applies every activation between bias and residual, to the bit of the numpy definition."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.kernels import kernel_id, need, rows_of
from support.linears import Case, make_problem, run

from hearth.compiler.ir import arithmetic
from hearth.runtime import native
from hearth.schemas.commands import GATES, Activation, Layout

FUNCTIONS = [each for each in Activation if each not in GATES]
# One row, few rows, four at a time and a rest, rows of a panel; channels that end within a vector.
SHAPES = [(1, 16, 64), (1, 33, 48), (3, 15, 64), (7, 17, 96), (21, 40, 64), (67, 20, 32)]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda each: each.name)
@pytest.mark.parametrize("kernel", rows_of("linear"), ids=kernel_id)
def test_activation_follows_the_bias_and_precedes_the_residual(
    kernel: native.Kernel, function: Activation
) -> None:
    """The kernel's own sums and bias, activated by numpy, are what the kernel gives with an activation."""
    need(kernel)
    for rows, n, k in SHAPES:
        whole = Case("epilogue", rows, n, k, bias=True, residual=True, activation=function)
        plain = Case("epilogue", rows, n, k, bias=True)
        problem = make_problem(whole, Layout(kernel.variant))
        sums = run(kernel, replace(problem, case=plain, residual=None))
        expected = arithmetic.activate(sums, function) + problem.residual
        for threads in (1, 3):
            found = run(kernel, problem, threads)
            np.testing.assert_array_equal(found.view(np.int32), expected.view(np.int32))
