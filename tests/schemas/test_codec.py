"""Typed values survive the codec; whatever does not fit is refused by its path, and nothing else happens."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import archives
from support.mutations import calm, junk, mutated

from hearth.schemas import codec
from hearth.schemas.bounds import LARGEST
from hearth.schemas.codec import decode, dumps, encode, loads, unpack
from hearth.schemas.errors import ArchiveError
from hearth.schemas.kv_layout import KVLayout
from hearth.schemas.manifest import Manifest
from hearth.schemas.program import Command, Entry, Operand, Program, Region, Rows
from hearth.schemas.weights_index import WeightsIndex

VALUES: Mapping[type, Any] = {
    Manifest: archives.manifest(),
    Program: archives.program(),
    KVLayout: archives.kv_layout(),
    WeightsIndex: archives.weights_index(),
}
each = pytest.mark.parametrize("kind", VALUES, ids=lambda kind: kind.__name__)


def refusal(kind: type, data: Any) -> ArchiveError:
    with pytest.raises(ArchiveError) as caught:
        decode(kind, data, kind.__name__.lower(), "x.har")
    assert caught.value.code == "archive.schema"
    assert caught.value.where == "x.har"
    return caught.value


@each
def test_round_trip(kind: type) -> None:
    value = VALUES[kind]
    back = loads(kind, dumps(value), "root")
    assert back == value
    assert dumps(back) == dumps(value)


def test_types_come_back_not_only_values() -> None:
    entry = loads(Program, dumps(archives.program()), "program").entries["prefill"]
    assert entry.commands[0].rows is Rows.T
    assert entry.commands[0].operands[0].region is Region.IO  # type: ignore[union-attr]
    assert entry.commands[1].operands[1] is None
    assert list(entry.max_rows) == [Rows.T, Rows.R]
    assert isinstance(entry.commands, tuple)


def test_the_form_in_the_file() -> None:
    operand = Operand(Region.KV, 64, 128, 16, 3)
    assert encode(operand) == [2, 64, 128, 16, 3]
    assert encode(Command("add", Rows.R, (operand, None), (7,), (0.5,))) == [
        "add", "R", [[2, 64, 128, 16, 3], None], [7], [0.5],
    ]  # fmt: skip
    assert list(encode(archives.program())) == [
        "entries",
        "weights_nbytes",
        "kv_nbytes",
        "io_nbytes",
    ]


PREFILL = ("entries", "prefill")
# where in the program's plain data, what is put there, the path the error names
WRONG: list[tuple[tuple[Any, ...], Any, str]] = [
    ((*PREFILL, "commands", 2, 2, 1, 1), -1, ".entries.prefill.commands[2].operands[1].offset is -1"),
    ((*PREFILL, "commands", 2, 2, 1, 1), 1.0, ".entries.prefill.commands[2].operands[1].offset is 1.0"),
    ((*PREFILL, "commands", 2, 2, 1, 1), True, ".commands[2].operands[1].offset is True"),
    ((*PREFILL, "commands", 2, 2, 1, 1), LARGEST + 1, ".operands[1].offset is 9223372036854775808"),
    ((*PREFILL, "commands", 2, 2, 1, 0), 4, ".operands[1].region is 4; expected one of 0, 1, 2, 3"),
    ((*PREFILL, "commands", 2, 2, 1, 0), False, ".operands[1].region is False"),
    ((*PREFILL, "commands", 2, 2, 1, 4), -2, ".operands[1].value is -2; expected an integer from -1"),
    ((*PREFILL, "commands", 2, 2, 1), [0, 1], ".operands[1] is [0, 1]; expected an array of 5: region"),
    ((*PREFILL, "commands", 2, 2, 1), {}, ".operands[1] is {}; expected list or nil"),
    ((*PREFILL, "commands", 1, 1), "S", ".commands[1].rows is 'S'; expected one of T, R"),
    ((*PREFILL, "commands", 1, 1), None, ".commands[1].rows is None; expected int or str"),
    ((*PREFILL, "commands", 1, 0), b"add", ".commands[1].op is b'add'; expected a string"),
    ((*PREFILL, "commands", 1, 4, 0), math.nan, ".commands[1].floats[0] is nan; expected a finite"),
    ((*PREFILL, "commands", 1, 4, 0), math.inf, ".commands[1].floats[0] is inf"),
    ((*PREFILL, "commands", 1, 4, 0), "1e-5", ".commands[1].floats[0] is '1e-5'"),
    ((*PREFILL, "commands"), {}, ".entries.prefill.commands is {}; expected an array"),
    ((*PREFILL, "max_rows", "S"), 3, ".entries.prefill.max_rows.S is 'S'; expected one of T, R"),
    ((*PREFILL, "max_rows", "T"), None, ".entries.prefill.max_rows.T is None"),
    ((*PREFILL, "extra"), 1, ".entries.prefill.extra is unknown; expected only commands, inputs"),
    (("entries",), [], "program.entries is []; expected a map"),
    (("entries", "prefill"), 3, "program.entries.prefill is 3; expected a map with commands"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "message"), WRONG, ids=lambda item: str(item)[-40:])
def test_what_does_not_fit_is_refused_by_its_path(
    path: tuple[Any, ...], value: Any, message: str
) -> None:
    data = encode(archives.program())
    place = data
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    assert message in str(refusal(Program, data))


@each
def test_each_field_must_be_there(kind: type) -> None:
    for name in encode(VALUES[kind]):
        data = encode(VALUES[kind])
        del data[name]
        assert f"{kind.__name__.lower()}.{name} is missing" in str(refusal(kind, data))


def test_long_values_are_cut_short_in_messages() -> None:
    data = encode(archives.manifest())
    data["targets"] = "x" * 10_000
    data["x" * 10_000] = 1
    assert len(str(refusal(Manifest, data))) < 500


def test_an_integer_serves_as_a_float() -> None:
    data = encode(archives.program())
    data["entries"]["prefill"]["commands"][1][4] = [1]
    value = decode(Program, data, "program").entries["prefill"].commands[1].floats
    assert value == (1.0,)
    assert type(value[0]) is float


def test_malformed_values_do_not_get_written() -> None:
    for changes in ({"context": -1}, {"context": 1.5}, {"eos": [1]}, {"family": None}):
        with pytest.raises(ValueError, match=r"[Mm]anifest"):
            dumps(replace(archives.manifest(), **changes))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "incomplete"), (b"\xc1", ""), (b"\x92\x01", "incomplete"), (b"\x01\x02", "extra"),
        (b"\xa1\xff", "utf-8"), (b"\x81\x01\x02", "int"), (b"\x82\xa1a\x01\xa1a\x02", "same key twice"),
        (b"\xd4\x01\x00", "ext"), (b"\xd6\xff\x00\x00\x00\x00", "ext"), (b"\x91" * 5000, ""),
    ],
)  # fmt: skip
def test_bytes_that_are_not_plain_data(data: bytes, why: str) -> None:
    with pytest.raises(ArchiveError) as caught:
        unpack(data, "part")
    assert caught.value.code == "archive.schema"
    assert why in str(caught.value)


@settings(calm, max_examples=150)
@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    for kind in VALUES:
        with pytest.raises(ArchiveError):
            loads(kind, data, "part")


@settings(calm, max_examples=150)
@given(junk())
def test_any_plain_data(data: Any) -> None:
    for kind in VALUES:
        with pytest.raises(ArchiveError):
            loads(kind, msgpack.packb(data), "part")


@each
def test_anything_changed_is_refused_or_comes_back_as_it_is(kind: type) -> None:
    @settings(calm, max_examples=200)
    @given(mutated(encode(VALUES[kind])))
    def check(data: Any) -> None:
        with contextlib.suppress(ArchiveError):
            assert encode(decode(kind, data, "part")) == data

    check()


def test_every_type_of_the_schemas_has_a_decoder() -> None:
    for kind in (*VALUES, Entry, Command):
        assert callable(codec._decoder(kind))


def test_a_large_program_decodes_in_milliseconds() -> None:
    entry = archives.program().entries["prefill"]
    long = replace(entry, commands=entry.commands * 117)
    program = replace(archives.program(), entries={"prefill": long, "decode": long})  # 702 commands
    data = dumps(program)

    def once() -> float:
        start = time.thread_time()  # whatever else the machine does
        assert len(loads(Program, data, "program").entries) == 2
        return time.thread_time() - start

    assert min(once() for _ in range(7)) < 0.03  # about 5 ms on one idle core
