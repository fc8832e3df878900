"""Linear kernels: integer rows equal numpy, float rows equal each other and lie within the derived bound."""

from __future__ import annotations

import numpy as np
import pytest
from support import functions
from support.linears import (
    GROUPED,
    INTEGER_GROUPS,
    TABLED,
    Case,
    Problem,
    float_weights,
    integer_reference,
    make_problem,
    run,
)

from hearth.runtime import native
from hearth.schemas.commands import BY_NAME, GATES, Activation, Layout

SILU, SWIGLU, GEGLU = Activation.SILU, Activation.SWIGLU, Activation.GEGLU_TANH

CASES = (
    Case("one_of_each", 1, 16, 64),
    Case("one_row", 1, 64, 192, bias=True),
    Case("one_channel", 3, 1, 64),
    Case("one_value", 2, 5, 1),
    Case("tail_n", 5, 37, 96, bias=True, residual=True),
    Case("tail_k", 4, 48, 172),
    Case("tail_k_group64", 9, 33, 172, group=64),
    Case("one_group", 2, 16, 128, group=128),
    Case("group128", 7, 80, 384, group=128, residual=True),
    *(Case(f"rows_{rows}", rows, 80, 160) for rows in (*range(2, 10), 12, 33)),
    Case("rows_130", 130, 48, 96, bias=True),
    Case("rows_200_beyond_a_panel", 200, 16, 64),
    Case("rows_193_in_equal_passes", 193, 66, 64),
    Case("rows_49_of_long_panels", 49, 80, 2112),
    Case("panels_of_k", 13, 80, 1184, bias=True),
    Case("silu", 3, 20, 64, bias=True, activation=SILU, residual=True),
    Case("silu_rows", 21, 20, 64, activation=SILU),
    Case("paired", 1, 96, 64, activation=SWIGLU),
    Case("paired_tail", 3, 2 * 19, 172, bias=True, activation=SWIGLU, residual=True),
    Case("paired_rows", 17, 2 * 50, 192, bias=True, activation=SWIGLU),
    Case("paired_one", 1, 2, 32, activation=SWIGLU),
    Case("geglu", 1, 96, 64, bias=True, activation=GEGLU),
    Case("geglu_tail", 3, 2 * 19, 172, bias=True, activation=GEGLU, residual=True),
    Case("geglu_rows", 17, 2 * 50, 192, activation=GEGLU),
    Case("row_gaps", 5, 20, 100, residual=True, pad=128),
    Case("row_gaps_many", 11, 20, 100, residual=True, pad=192),
    Case("extreme_row", 1, 48, 256, extreme=True),
    Case("extreme_few", 6, 48, 256, extreme=True),
    Case("extreme_many", 40, 48, 1024, extreme=True),
    Case("extreme_largest_k", 9, 16, 131072, extreme=True),
    Case("extreme_group128", 3, 16, 512, group=128, extreme=True),
)
FLOAT_SCALES = (
    Case("group16", 2, 33, 100, group=16),
    Case("group48", 7, 20, 170, group=48, bias=True),
    Case("group_is_the_row", 1, 48, 172, group=176),
    Case("group_beyond_a_panel", 1, 70, 700, group=256, residual=True),
    Case("group_beyond_a_panel_rows", 9, 70, 700, group=256),
    Case("group16_paired", 1, 2 * 37, 90, group=16, activation=SWIGLU),
)
QUANTISED = (Layout.Q8B16, Layout.Q4B16, *TABLED)
ROWS = [kernel for kernel in native.kernels() if kernel.opcode == BY_NAME["linear"].opcode]
EXACT = [kernel for kernel in ROWS if kernel.x_is_q8]
FLOAT = [kernel for kernel in ROWS if not kernel.x_is_q8]


def _need(kernel: native.Kernel) -> None:
    if kernel.isa not in native.isas():
        pytest.skip(f"this CPU lacks {kernel.isa} for {kernel.name}")


def _cases(layout: Layout) -> list[Case]:
    """The cases that a layout can hold."""
    if layout in GROUPED:
        return [*CASES, *FLOAT_SCALES]
    return [case for case in CASES if layout in INTEGER_GROUPS or case.group == 32]


@pytest.mark.parametrize("kernel", EXACT, ids=lambda kernel: kernel.name)
def test_integer_linear_equals_numpy(kernel: native.Kernel) -> None:
    _need(kernel)
    for case in _cases(Layout(kernel.variant)):
        problem = make_problem(case, Layout(kernel.variant))
        assert np.array_equal(run(kernel, problem), integer_reference(problem)), case.name


@pytest.mark.parametrize("kernel", EXACT, ids=lambda kernel: kernel.name)
def test_every_number_of_rows_equals_numpy(kernel: native.Kernel) -> None:
    """Rows are cut into tiles and halves of tiles; K ends within a step of every loop."""
    _need(kernel)
    for rows in range(1, 72):
        for extreme in (False, True):
            case = Case(f"{rows} rows", rows, 40, 32 * (rows % 7) + 20, extreme=extreme)
            problem = make_problem(case, Layout(kernel.variant))
            assert np.array_equal(run(kernel, problem), integer_reference(problem)), case


@pytest.mark.parametrize("group", [32, 64, 128])
@pytest.mark.parametrize("kernel", EXACT, ids=lambda kernel: kernel.name)
def test_turns_of_groups(kernel: native.Kernel, group: int) -> None:
    """Every four groups have their multipliers at the head; the last turn and the last group are not full."""
    _need(kernel)
    if Layout(kernel.variant) not in INTEGER_GROUPS:
        pytest.skip("int8 has no groups")
    for rows in (1, 2, 3, 4, 5, 8, 9, 16, 17, 20, 21):
        for k in (4 * group, 9 * group + 20):
            problem = make_problem(Case("turns", rows, 35, k, group), Layout(kernel.variant))
            assert np.array_equal(run(kernel, problem), integer_reference(problem)), (rows, k)


@pytest.mark.parametrize("kernel", FLOAT, ids=lambda kernel: kernel.name)
def test_float_linear_is_within_the_bound(kernel: native.Kernel) -> None:
    _need(kernel)
    for case in _cases(Layout(kernel.variant)):
        problem = make_problem(case, Layout(kernel.variant))
        _check_bound(problem, run(kernel, problem))


def _check_bound(problem: Problem, y: np.ndarray) -> None:
    """|y - exact| under the rounding of K fmas, the scale, bias and residual; activations have slope below 1.13."""
    weight, scale = float_weights(problem)
    x = problem.x.astype(np.float64)
    exact = (x @ weight.T.astype(np.float64)) * scale
    size = (np.abs(x) @ np.abs(weight.T.astype(np.float64))) * scale
    eps = float(np.finfo(np.float32).eps)
    bound = eps * (problem.case.k + 4) * (size + 1)
    if problem.bias is not None:
        exact = exact + problem.bias
        bound = bound + eps * np.abs(exact)
    if problem.case.activation is SILU:
        exact, bound = exact / (1 + np.exp(-exact)), 1.1 * bound + 8 * eps * np.abs(exact)
    if problem.case.activation in GATES:
        columns = problem.columns
        gate, up = exact[:, :columns], exact[:, columns:]
        given = functions.EXACT[GATES[problem.case.activation]](gate)
        near = 1.13 * bound[:, :columns] + 8 * eps * np.abs(gate)
        bound = near * (np.abs(up) + bound[:, columns:]) + np.abs(given) * bound[:, columns:]
        exact = given * up
    if problem.residual is not None:
        exact = exact + problem.residual
    bound = bound + 4 * eps * (np.abs(exact) + 1)
    assert (np.abs(y - exact) <= bound).all(), problem.case.name


@pytest.mark.parametrize("layout", Layout, ids=lambda layout: layout.name.lower())
def test_float_linears_of_all_isas_are_the_same_bits(layout: Layout) -> None:
    kernels = [k for k in FLOAT if k.variant == layout and k.isa in native.isas()]
    for case in _cases(layout):
        problem = make_problem(case, layout)
        first = run(kernels[0], problem)
        for kernel in kernels[1:]:
            assert np.array_equal(run(kernel, problem), first), (case.name, kernel.name)


@pytest.mark.parametrize("kernel", ROWS, ids=lambda kernel: kernel.name)
def test_threads_do_not_change_the_result(kernel: native.Kernel) -> None:
    _need(kernel)
    for case in CASES:
        if case.name in ("tail_n", "rows_33", "paired_tail", "paired_rows", "one_channel"):
            problem = make_problem(case, Layout(kernel.variant))
            alone = run(kernel, problem)
            for threads in (2, 3, 7):
                assert np.array_equal(run(kernel, problem, threads), alone), case.name


@pytest.mark.parametrize("kernel", ROWS, ids=lambda kernel: kernel.name)
def test_a_row_does_not_depend_on_its_neighbours(kernel: native.Kernel) -> None:
    """Any split of a prompt into chunks gives the same bits."""
    _need(kernel)
    problem = make_problem(Case("chunks", 19, 40, 172, residual=True), Layout(kernel.variant))
    whole = run(kernel, problem)
    for row in range(19):
        assert np.array_equal(run(kernel, _one_row(problem, row))[0], whole[row])


def _one_row(problem: Problem, row: int) -> Problem:
    pick = slice(row, row + 1)
    case = Case("chunk", 1, problem.case.n, problem.case.k, problem.case.group, residual=True)
    assert problem.residual is not None
    return Problem(
        case,
        problem.layout,
        problem.x[pick],
        problem.codes[pick],
        problem.x_scale[pick],
        problem.weight,
        problem.packed,
        problem.bias,
        problem.residual[pick],
    )


def test_every_layout_has_a_kernel_for_every_isa() -> None:
    want = {(layout, False) for layout in Layout} | {(layout, True) for layout in QUANTISED}
    for isa in ("portable", "avx2", "avx512vnni"):
        assert {(k.variant, k.x_is_q8) for k in ROWS if k.isa == isa} == want
