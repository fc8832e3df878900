"""The plan checker refuses plans broken on purpose, each with its code, and nothing that is whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from support.graphs import Tiny, decoder
from support.programs import FLOAT, TARGET, lowered
from support.statics import coded_graph, measured

from hearth.compiler.lower import lower
from hearth.compiler.passes import FLOAT_PASSES, run_passes
from hearth.compiler.quantize import Scheme
from hearth.compiler.quantize.schemes import INT4_G32, INT8
from hearth.compiler.transform import rotate_down
from hearth.runtime.verify.plan import PlanError, check
from hearth.schemas.commands import BY_NAME, CONTRACTS, KVScheme
from hearth.schemas.program import Command, Entry, Operand, Program, Region, Rows

WHOLE = lowered(Tiny(bias=True, tied=False, kv=KVScheme.INT8)).program
UNFUSED = lowered(
    Tiny(bias=True), ("fuse-rope", "fuse-bias", "fuse-gate", "fold-norm-gain")
).program
FLOATS = lowered(Tiny(bias=True), scheme=FLOAT).program
TURNED = lowered(Tiny(ffn=96), transform=rotate_down).program  # q 12, s 8
NORMED = lowered(Tiny(head_norms=True)).program
ENTRY = "prefill"
_GRAPH = run_passes(FLOAT_PASSES, decoder(Tiny(bias=True, tied=False, kv=KVScheme.F32)))
_SCHEME = Scheme(INT4_G32, INT8, "static", KVScheme.INT8_STATIC)
STATIC = lower(coded_graph(_GRAPH, _SCHEME, measured(_GRAPH, ENTRY, range(9))), TARGET, 8).program

Edit = Callable[[Command], Command]


def with_entry(program: Program, **changes: Any) -> Program:
    entry = replace(program.entries[ENTRY], **changes)
    return replace(program, entries={**program.entries, ENTRY: entry})


def edited(program: Program, op: str, edit: Edit, nth: int = 0) -> Program:
    """The program with the nth command of that name changed."""
    commands = list(program.entries[ENTRY].commands)
    places = [index for index, command in enumerate(commands) if command.op == op]
    commands[places[nth]] = edit(commands[places[nth]])
    return with_entry(program, commands=tuple(commands))


def slot(op: str, name: str) -> int:
    return [spec.name for spec in BY_NAME[op].operands].index(name)


def operand(name: str, **changes: Any) -> Edit:
    """Change fields of an operand; a callable gets the old value."""

    def edit(command: Command) -> Command:
        at = slot(command.op, name)
        old = command.operands[at]
        assert old is not None
        new = {
            key: value(getattr(old, key)) if callable(value) else value
            for key, value in changes.items()
        }
        return put(command, at, replace(old, **new))

    return edit


def without(name: str) -> Edit:
    return lambda command: put(command, slot(command.op, name), None)


def put(command: Command, at: int, new: Operand | None) -> Command:
    return replace(command, operands=(*command.operands[:at], new, *command.operands[at + 1 :]))


def integer(name: str, value: int) -> Edit:
    def edit(command: Command) -> Command:
        at = BY_NAME[command.op].ints.index(name)
        return replace(command, ints=(*command.ints[:at], value, *command.ints[at + 1 :]))

    return edit


def number(at: int, value: float) -> Edit:
    """Another float attribute."""
    return lambda c: replace(c, floats=(*c.floats[:at], value, *c.floats[at + 1 :]))


def more(by: int) -> Callable[[int], int]:
    return lambda value: value + by


def like(other: str, op: str) -> Edit:
    """The output moved onto another operand of its command."""

    def edit(command: Command) -> Command:
        source = command.operands[slot(command.op, other)]
        assert source is not None
        at = slot(command.op, "y")
        old = command.operands[at]
        assert old is not None
        return put(command, at, replace(old, offset=source.offset, region=source.region))

    return edit


# what is broken: program, command, change, code
BROKEN: dict[str, tuple[Program, str, Edit, str]] = {
    "unknown_op": (WHOLE, "embed", lambda c: replace(c, op="gather"), "op.unknown"),
    "operand_too_many": (
        WHOLE, "quantize", lambda c: replace(c, operands=(*c.operands, None)), "op.arity",
    ),
    "operand_too_few": (WHOLE, "linear", lambda c: replace(c, operands=c.operands[:-1]), "op.arity"),
    "integer_lost": (WHOLE, "linear", lambda c: replace(c, ints=c.ints[:-1]), "op.ints"),
    "float_lost": (WHOLE, "attention", lambda c: replace(c, floats=()), "op.ints"),
    "zero_columns": (WHOLE, "quantize", integer("K", 0), "op.value"),
    "k_beyond_int32_sums": (WHOLE, "quantize", integer("K", 131_073), "op.value"),
    "unknown_layout": (WHOLE, "linear", integer("layout", 11), "op.value"),
    "unknown_activation": (WHOLE, "linear", integer("activation", 99), "op.value"),
    "group_without_int4": (WHOLE, "embed", integer("group", 32), "op.value"),
    "odd_group": (WHOLE, "linear", integer("group", 48), "op.value"),
    "rotary_beyond_head": (WHOLE, "attention", integer("rotary_dim", 32), "op.value"),
    "heads_not_divisible": (WHOLE, "attention", integer("heads", 3), "op.value"),
    "negative_eps": (WHOLE, "rms_norm_quantize", lambda c: replace(c, floats=(-1.0,)), "op.value"),
    "scale_not_finite": (
        WHOLE, "attention", lambda c: replace(c, floats=(float("nan"),)), "op.value",
    ),
    "static_without_codes": (
        STATIC, "quantize_static", lambda c: replace(c, floats=()), "op.ints",
    ),
    "static_scale_of_0": (STATIC, "quantize_static", number(0, 0.0), "op.value"),
    "zero_that_is_no_code": (STATIC, "quantize_static", number(1, 128.0), "op.value"),
    "zero_between_codes": (STATIC, "rms_norm_quantize_static", number(2, 0.5), "op.value"),
    "zero_that_is_a_nan": (STATIC, "kv_write", number(1, float("nan")), "op.value"),
    "codes_of_a_dynamic_cache": (
        WHOLE, "kv_write", lambda c: replace(c, floats=(1.0, 0.0)), "op.ints",
    ),
    "another_k_scale": (STATIC, "attention", number(1, 0.75), "state.mismatch"),
    "another_v_zero": (STATIC, "attention", number(4, 99.0), "state.mismatch"),
    "too_many_rows": (WHOLE, "quantize", lambda c: replace(c, rows=9), "rows.bound"),
    "fixed_rows": (WHOLE, "quantize", lambda c: replace(c, rows=8), "rows.mismatch"),
    "other_rows": (WHOLE, "quantize", lambda c: replace(c, rows=Rows.R), "rows.mismatch"),
    "weight_missing": (WHOLE, "linear", without("w"), "operand.missing"),
    "output_missing": (WHOLE, "linear", without("y"), "operand.missing"),
    "scales_missing": (WHOLE, "kv_write", without("scales"), "operand.missing"),
    "k_scales_missing": (WHOLE, "attention", without("k_scales"), "operand.missing"),
    "one_table_missing": (WHOLE, "attention", without("sin"), "operand.missing"),
    "tables_without_rotation": (WHOLE, "attention", integer("rotary_dim", 0), "operand.unexpected"),
    "scales_of_a_float_cache": (
        FLOATS, "kv_write",
        lambda c: put(c, 4, Operand(Region.KV, 0, 64, 0, 999)), "operand.unexpected",
    ),
    "weight_in_arena": (WHOLE, "linear", operand("w", region=Region.ARENA), "region"),
    "cache_in_io": (WHOLE, "kv_write", operand("cache", region=Region.IO), "region"),
    "input_in_weights": (
        WHOLE, "quantize", operand("x", region=Region.WEIGHTS, offset=0, value=-1), "region",
    ),
    "input_in_io": (WHOLE, "quantize", operand("x", region=Region.IO, offset=0), "region"),
    "negative_offset": (WHOLE, "quantize", operand("y", offset=-64), "bounds"),
    "beyond_the_arena": (WHOLE, "quantize", operand("y", offset=1 << 30), "bounds"),
    "beyond_the_weights": (
        WHOLE, "linear", operand("w", offset=WHOLE.weights_nbytes - 64), "bounds",
    ),
    "beyond_the_cache": (WHOLE, "kv_write", operand("cache", offset=WHOLE.kv_nbytes), "bounds"),
    "output_misaligned": (WHOLE, "quantize", operand("y", offset=more(4)), "align"),
    "weight_misaligned": (WHOLE, "linear", operand("w", offset=more(32)), "align"),
    "input_misaligned": (WHOLE, "quantize", operand("x", offset=more(2)), "align"),
    "weight_too_short": (WHOLE, "linear", operand("w", nbytes=more(-64)), "extent"),
    "weight_too_long": (WHOLE, "embed", operand("table", nbytes=more(64)), "extent"),
    "bias_too_short": (WHOLE, "linear", operand("bias", nbytes=more(-4)), "extent"),
    "gain_too_long": (UNFUSED, "rms_norm_quantize", operand("gain", nbytes=more(4)), "extent"),
    "table_cut": (WHOLE, "attention", operand("cos", nbytes=more(-16)), "extent"),
    "cache_too_short": (WHOLE, "kv_write", operand("cache", nbytes=more(-64)), "extent"),
    "scales_too_short": (WHOLE, "kv_write", operand("scales", nbytes=more(-4)), "extent"),
    "output_too_short": (WHOLE, "linear", operand("y", nbytes=more(-4)), "extent"),
    "input_too_long": (WHOLE, "attention", operand("q", nbytes=more(4)), "extent"),
    "rows_overlap": (WHOLE, "linear", operand("y", stride=16), "stride"),
    "stride_not_of_floats": (WHOLE, "linear", operand("y", stride=more(2)), "stride"),
    "records_too_close": (WHOLE, "quantize", operand("y", stride=more(-64)), "stride"),
    "input_of_another_stride": (WHOLE, "quantize", operand("x", stride=more(64)), "stride"),
    "strided_weight": (WHOLE, "linear", operand("w", stride=64), "stride"),
    "value_lost": (WHOLE, "quantize", operand("x", value=-1), "value"),
    "weight_with_a_value": (WHOLE, "linear", operand("w", value=3), "value"),
    "used_before_definition": (WHOLE, "quantize", operand("x", value=9_999), "undefined"),
    "own_result_read": (
        WHOLE, "quantize",
        lambda c: put(c, 0, replace(c.operands[1], stride=128)),  # type: ignore[type-var]
        "undefined",
    ),
    "defined_twice": (
        WHOLE, "quantize",
        lambda c: put(c, 1, replace(c.operands[1], value=c.operands[0].value)),  # type: ignore
        "redefined",
    ),
    "input_number_reused": (WHOLE, "quantize", operand("y", value=0), "redefined"),
    "floats_read_as_tokens": (
        WHOLE, "rms_norm_quantize", lambda c: replace(c, op="embed", operands=(
            c.operands[0], WHOLE.entries[ENTRY].commands[0].operands[1], c.operands[2],
        ), ints=WHOLE.entries[ENTRY].commands[0].ints, floats=()), "kind",
    ),
    "view_past_the_right_edge": (WHOLE, "attention", operand("q", offset=more(256)), "view"),
    "view_before_the_left_edge": (WHOLE, "quantize", operand("x", offset=more(-64)), "view"),
    "output_over_input": (UNFUSED, "mul", like("a", "mul"), "aliased"),
    "scales_over_codes": (
        WHOLE, "kv_write",
        lambda c: put(c, 4, replace(c.operands[4], offset=c.operands[3].offset)),  # type: ignore
        "aliased",
    ),
    "cache_unwritten": (WHOLE, "attention", operand("k", value=WHOLE.entries[ENTRY].given[1]), "state.unwritten"),
    "v_for_k": (
        FLOATS, "attention", lambda c: put(c, 3, c.operands[5]), "state.mismatch",
    ),
    "scales_of_v": (WHOLE, "attention", lambda c: put(c, 4, c.operands[6]), "state.mismatch"),
    "factors_do_not_divide": (TURNED, "hadamard", integer("s", 16), "op.value"),
    "no_power_of_two": (TURNED, "hadamard", integer("s", 4 * 3), "op.value"),
    "a_factor_of_no_matrix": (TURNED, "hadamard", integer("q", 6), "op.value"),
    "a_factor_of_zero": (TURNED, "hadamard", integer("r", 0), "op.value"),
    "signs_missing": (TURNED, "hadamard", without("signs"), "operand.missing"),
    "signs_without_a_factor": (TURNED, "hadamard", integer("q", 1), "operand.unexpected"),
    "signs_too_short": (TURNED, "hadamard", operand("signs", nbytes=more(-4)), "extent"),
    "half_a_head": (NORMED, "head_norm", integer("heads", 8), "extent"),
    "heads_without_columns": (NORMED, "head_norm", integer("head_dim", 0), "op.value"),
    "gain_of_all_heads": (NORMED, "head_norm", operand("gain", nbytes=more(96)), "extent"),
    "other_context": (FLOATS, "kv_write", integer("context", 39), "extent"),
    "cache_over_half_another": (
        FLOATS, "kv_write", operand("cache", offset=more(-64)), "clobbered",
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    "program",
    [WHOLE, UNFUSED, FLOATS, TURNED, NORMED, STATIC],
    ids=["whole", "unfused", "floats", "turned", "normed", "static"],
)
def test_whole_programs_pass(program: Program) -> None:
    check(program)


@pytest.mark.parametrize("case", BROKEN.values(), ids=BROKEN)
def test_a_broken_command_is_refused(case: tuple[Program, str, Edit, str]) -> None:
    program, op, edit, code = case
    nth = -1 if op == "kv_write" and code == "clobbered" else 0
    with pytest.raises(PlanError) as refused:
        check(edited(program, op, edit, nth))
    assert refused.value.code == code
    assert ENTRY in str(refused.value)


def tokens(**changes: Any) -> Callable[[Entry], Entry]:
    """Change the place of the tokens."""

    def edit(entry: Entry) -> Entry:
        (port,) = entry.inputs
        return replace(entry, inputs=(replace(port, operand=replace(port.operand, **changes)),))

    return edit


def logits(**changes: Any) -> Callable[[Entry], Entry]:
    """Change the place of the logits."""

    def edit(entry: Entry) -> Entry:
        (port,) = entry.outputs
        return replace(entry, outputs=(replace(port, operand=replace(port.operand, **changes)),))

    return edit


def ports(**changes: Any) -> Callable[[Entry], Entry]:
    """Change the port of the logits itself."""
    return lambda entry: replace(entry, outputs=(replace(entry.outputs[0], **changes),))


BROKEN_ENTRIES: dict[str, tuple[Callable[[Entry], Entry], str]] = {
    "tokens_in_arena": (tokens(region=Region.ARENA), "io"),
    "tokens_not_given": (lambda e: replace(e, given=e.given[1:]), "value"),
    "tokens_too_few": (tokens(nbytes=4), "extent"),
    "tokens_with_gaps": (tokens(stride=8), "extent"),
    "given_twice": (lambda e: replace(e, given=(*e.given, e.given[0])), "value"),
    "given_without_a_number": (lambda e: replace(e, given=(*e.given, -1)), "value"),
    "tokens_misaligned": (tokens(offset=4), "align"),
    "tokens_out_of_bounds": (tokens(offset=1 << 30), "bounds"),
    "an_input_on_another": (
        lambda e: replace(e, inputs=(*e.inputs, replace(e.inputs[0], name="types"))), "clobbered",
    ),
    "two_ports_of_one_name": (lambda e: replace(e, inputs=e.inputs * 2), "io"),
    "logits_never_written": (logits(value=777), "undefined"),
    "logits_that_are_the_tokens": (
        lambda e: replace(e, outputs=(replace(e.inputs[0], name="logits"),)), "undefined",
    ),
    "logits_elsewhere": (logits(offset=0), "io"),
    "logits_short": (logits(nbytes=4), "extent"),
    "logits_of_fewer_columns": (ports(columns=8), "extent"),
    "logits_of_other_rows": (ports(rows=Rows.T), "rows.mismatch"),
    "logits_of_too_many_rows": (ports(rows=9), "rows.bound"),
    "no_maximum_of_rows": (lambda e: replace(e, max_rows={Rows.T: 8}), "rows.bound"),
    "more_logits_than_tokens": (
        lambda e: replace(e, max_rows={Rows.T: 8, Rows.R: 9}), "rows.bound",
    ),
    "more_tokens_than_planned": (
        lambda e: replace(e, max_rows={Rows.T: 9, Rows.R: 8}), "extent",
    ),
    "arena_too_small": (lambda e: replace(e, arena_nbytes=e.arena_nbytes - 64), "bounds"),
    "a_command_lost": (lambda e: replace(e, commands=e.commands[1:]), "undefined"),
    "the_last_command_lost": (lambda e: replace(e, commands=e.commands[:-1]), "undefined"),
    "a_command_repeated": (
        lambda e: replace(e, commands=(e.commands[0], *e.commands)), "redefined",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN_ENTRIES.values(), ids=BROKEN_ENTRIES)
def test_a_broken_entry_is_refused(case: tuple[Callable[[Entry], Entry], str]) -> None:
    edit, code = case
    entry = edit(WHOLE.entries[ENTRY])
    with pytest.raises(PlanError) as refused:
        check(replace(WHOLE, entries={**WHOLE.entries, ENTRY: entry}))
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"weights_nbytes": WHOLE.weights_nbytes - 4096}, "bounds"),
        ({"kv_nbytes": 64}, "bounds"),
        ({"io_nbytes": 128}, "bounds"),
    ],
)
def test_a_region_too_small_is_refused(changes: dict[str, int], code: str) -> None:
    with pytest.raises(PlanError) as refused:
        check(replace(WHOLE, **changes))
    assert refused.value.code == code


def test_a_write_over_logits_is_refused() -> None:
    """The logits are written first, then something else lands on them."""
    entry = WHOLE.entries[ENTRY]
    spoiler = replace(entry.commands[-1])
    at = slot("linear", "y")
    spoiler = put(spoiler, at, replace(entry.outputs[0].operand, value=5_000))
    with pytest.raises(PlanError) as refused:
        check(with_entry(WHOLE, commands=(*entry.commands, spoiler)))
    assert refused.value.code == "clobbered"


def test_weights_that_overlap_are_refused() -> None:
    with pytest.raises(PlanError) as refused:
        check(edited(WHOLE, "linear", operand("w", offset=more(-64)), 1))
    assert refused.value.code == "weights.overlap"


def test_one_weight_in_two_forms_is_refused() -> None:
    """K = 24 fills one padded group of 32 or of 64: equal bytes, read otherwise."""
    with pytest.raises(PlanError) as refused:
        check(edited(WHOLE, "linear", integer("group", 64)))
    assert refused.value.code == "weights.overlap"


def test_every_contract_has_shapes() -> None:
    from hearth.runtime.verify.plan.shapes import SHAPES

    assert set(SHAPES) == {contract.name for contract in CONTRACTS}
