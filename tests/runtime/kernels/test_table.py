"""The kernel table is whole, and the compiled-in contracts and sizes are those of the schemas and layouts."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import numpy as np
import pytest
from support.caches import Cache, Layer, kernel_for
from support.kernels import need
from support.linears import TABLED, Case, group_of, make_problem

from hearth.compiler.lower.layouts import LAYOUTS
from hearth.runtime import native
from hearth.schemas.commands import BY_NAME, CONTRACTS, Kind, KVKind, KVScheme, Layout

ISAS = ("portable", "avx2", "avx512vnni")  # of which each has every row
BLANK = np.zeros((3, 8), np.float32)


def test_contracts_mirror_the_schemas() -> None:
    assert native.contracts() == {contract.name: contract.opcode for contract in CONTRACTS}
    found = native.contract_specs()
    for contract in CONTRACTS:
        operands, *others = found[contract.name]
        expected_others = [contract.ints, contract.floats, contract.by_segment, contract.fixed]
        assert others == expected_others, contract.name
        expected = tuple((o.name, o.role, o.kinds, o.optional) for o in contract.operands)
        assert operands == expected, contract.name


def test_isas_are_known_and_begin_with_portable() -> None:
    here = native.isas()
    assert here[0] == "portable"
    assert here == [isa for isa in (*ISAS, "amx") if isa in here]


def test_names_are_unique_and_end_with_the_isa() -> None:
    opcodes = {contract.opcode: contract.name for contract in CONTRACTS}
    names = Counter(kernel.name for kernel in native.kernels())
    assert max(names.values()) == 1
    for kernel in native.kernels():
        op = opcodes[kernel.opcode]
        assert re.fullmatch(rf"{op}_[a-z0-9_]+_{kernel.isa}", kernel.name), kernel.name


INTEGER = (Layout.Q8B16, Layout.Q4B16, *TABLED)


def test_every_variant_has_a_row_for_every_isa() -> None:
    """Those of amx are the integer linears."""
    expected = set()
    for contract in CONTRACTS:
        first = contract.operands[0]
        variants: range | type[Layout] | type[KVScheme] = range(1)
        if "layout" in contract.ints:
            variants = Layout
        if "scheme" in contract.ints:
            variants = KVScheme
        for variant in variants:
            expected.add((contract.opcode, int(variant), False))
            if Kind.Q8 in first.kinds and variant in INTEGER:
                expected.add((contract.opcode, int(variant), True))
    found = Counter((k.opcode, k.variant, k.x_is_q8, k.isa) for k in native.kernels())
    with_amx = {(*key, "amx") for key in expected if key[2]}
    assert set(found) == {(*key, isa) for key in expected for isa in ISAS} | with_amx
    assert max(found.values()) == 1


@pytest.mark.parametrize("layout", Layout, ids=lambda layout: layout.name)
@pytest.mark.parametrize(("n", "k", "group"), [(1, 1, 32), (17, 100, 64), (33, 160, 128)])
def test_a_packed_weight_one_byte_short_is_refused(
    layout: Layout, n: int, k: int, group: int
) -> None:
    """So the executor's size of a packed weight is the layout's."""
    case = Case("size", 1, n, k, group)
    packed, group = make_problem(case, layout).packed, group_of(case, layout)
    assert packed.size == LAYOUTS[layout].nbytes(n, k, group)
    memory = _aligned(packed)
    tokens, y = np.zeros(1, np.int32), np.zeros((1, k), np.float32)
    name = f"embed_{layout.name.lower()}_portable"

    def embed(table: np.ndarray) -> None:
        ints = [n, k, int(layout), group]
        native.call(name, [tokens, table, y], [0, 0, k * 4], ints, [], rows=1, tokens=1)

    embed(memory)
    with pytest.raises(ValueError, match=f"table: {packed.size - 1} bytes"):
        embed(memory[:-1])


@pytest.mark.parametrize("kind", KVKind, ids=lambda kind: kind.name)
@pytest.mark.parametrize("scheme", KVScheme, ids=lambda scheme: scheme.name)
def test_a_cache_one_byte_short_is_refused(scheme: KVScheme, kind: KVKind) -> None:
    need(kernel_for("kv_write", scheme, "portable"))
    x = np.ones((1, 2, 6), np.float32)
    short = Cache(Layer(scheme, 2, 2, 6, 21), "portable")
    short.write(kind, x, 20)
    short.codes[kind] = short.codes[kind][:-1]
    with pytest.raises(ValueError, match="cache"):
        short.write(kind, x, 20)


ADD = {
    "kernel": "add_f32_portable",
    "operands": [BLANK] * 3,
    "strides": [32] * 3,
    "ints": [8],
    "floats": [],
    "rows": 3,
    "tokens": 3,
}
LAST = ADD | {"kernel": "last_rows_f32_portable", "operands": [BLANK] * 2, "strides": [32] * 2}
ACTIVATE = LAST | {"kernel": "activate_f32_portable", "ints": [8, 3]}
POOL = LAST | {"kernel": "pool_f32_portable", "ints": [8, 0], "rows": 1}
ROPE = ADD | {
    "kernel": "rope_f32_portable",
    "operands": [BLANK] * 4,
    "strides": [32] * 4,
    "ints": [1, 8, 8],
}


@pytest.mark.parametrize(
    "good", [ADD, LAST, ACTIVATE, POOL, ROPE], ids=["add", "last_rows", "activate", "pool", "rope"]
)
def test_call_accepts(good: dict[str, Any]) -> None:
    native.call(**good)


@pytest.mark.parametrize(
    ("good", "change", "message"),
    [
        (ADD, {"rows": 4}, "a: 96 bytes, the kernel needs 128"),
        (ADD, {"strides": [32, 32, 48]}, "y: 96 bytes, the kernel needs 128"),
        (ADD, {"ints": [9]}, "the kernel needs"),
        (ADD, {"ints": [0]}, "no columns"),
        (ADD, {"ints": [-8]}, "out of range"),
        (ADD, {"ints": [8, 8]}, "wrong number"),
        (ADD, {"floats": [1.0]}, "wrong number"),
        (ADD, {"rows": -1}, ">= 0"),
        (ADD, {"threads": 0}, "threads"),
        (ADD, {"kernel": "add_f32_other"}, "no kernel named"),
        (ADD, {"operands": [BLANK, None, None]}, "b is missing"),
        (ADD, {"operands": [np.zeros((3, 16), np.float32)[:, ::2]] * 3}, "a: not a contiguous"),
        (LAST, {"tokens": 2}, "rows is above tokens"),
        (ACTIVATE, {"ints": [8, 0]}, "unknown activation"),
        (ACTIVATE, {"ints": [8, 2]}, "unknown activation"),
        (ACTIVATE, {"ints": [8, 8]}, "unknown activation"),
        (POOL, {"ints": [8, 4]}, "unknown pooling"),
        (POOL, {"tokens": 4}, "x: 96 bytes, the kernel needs 128"),
        (POOL, {"tokens": 0}, "rows is above tokens"),
        (ROPE, {"position": 4}, "above the positions of the tables"),
        (ROPE, {"ints": [1, 8, 10]}, "rotary_dim"),
    ],
)
def test_call_refuses(good: dict[str, Any], change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        native.call(**(good | change))


def test_opcodes_have_numbers_of_their_own() -> None:
    assert len({contract.opcode for contract in CONTRACTS}) == len(BY_NAME)


def _aligned(data: np.ndarray) -> np.ndarray:
    memory = np.zeros(data.size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    memory[start : start + data.size] = data
    return memory[start : start + data.size]
