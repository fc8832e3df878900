"""Whatever the records of linears and adapters say, with whole hashes: refused by name, or harmless."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.checkpoint import write_checkpoint
from support.compiling import wanted
from support.forging import opened, replaced, rewritten, typed
from support.lora import write_peft
from support.mutations import calm, mutated

from hearth.compiler.lora.add import add_adapter
from hearth.compiler.pipeline import compile_model
from hearth.runtime import AdapterUse, load
from hearth.schemas import sections
from hearth.schemas.commands import BY_NAME
from hearth.schemas.errors import HearthError
from hearth.schemas.lora import Factor, Linears, Lora, TurnedRows
from hearth.schemas.program import Command, Program

FEW = settings(calm, max_examples=25)
RECORD, DATA = sections.lora_section("poet"), sections.lora_data_section("poet")
HARMLESS_OR_NAMED = (
    "",
    "archive.adapter",
    "archive.schema",
    "archive.inconsistent",
    "archive.no_adapters",
    "lora.module",
    "lora.shape",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lora-fuzz")


@pytest.fixture(scope="module")
def peft(folder: Path) -> Path:
    return write_peft(folder / "peft", write_checkpoint(folder / "source"))


@pytest.fixture(scope="module")
def adapted(folder: Path, peft: Path) -> Path:
    path = folder / "adapted.har"
    compile_model(folder / "source", path, wanted(weights="int8", method="quarot"))
    add_adapter(opened(path), "poet", peft)
    return path


def refused(work: Callable[[], object]) -> str:
    """The code of the refusal, "" where there is none."""
    try:
        work()
    except HearthError as error:
        return error.code
    return ""


def use(path: Path) -> None:
    session = load(path, threads=1).session(adapter=AdapterUse("poet"))
    session.prefill([1, 2, 3])
    session.decode(4)


@FEW
@given(source=st.data())
def test_any_record_of_an_adapter(adapted: Path, folder: Path, source: st.DataObject) -> None:
    plain = msgpack.unpackb(opened(adapted).section(RECORD))
    changed = source.draw(mutated(plain))
    with suppress(OverflowError, ValueError):  # an integer that msgpack cannot hold
        packed = msgpack.packb(changed)
        forged = rewritten(adapted, folder / "f.har", {RECORD: replaced(packed)})
        assert refused(lambda: use(forged)) in HARMLESS_OR_NAMED


@FEW
@given(source=st.data())
def test_any_data_of_an_adapter(adapted: Path, folder: Path, source: st.DataObject) -> None:
    """Ranks and blocks are in the data itself: whatever they are, no kernel leaves it."""
    data = bytearray(opened(adapted).section(DATA))
    for _ in range(source.draw(st.integers(1, 20))):
        at = source.draw(st.integers(0, len(data) // 4 - 1))
        data[4 * at : 4 * at + 4] = source.draw(st.integers(0, 2**32 - 1)).to_bytes(4, "little")
    del data[source.draw(st.sampled_from([len(data), len(data) // 2, 64, 1])) :]

    def signed(lora: Lora) -> Lora:
        return replace(lora, data_nbytes=len(data), data_sha256=hashlib.sha256(data).hexdigest())

    changes = {RECORD: typed(Lora, signed), DATA: replaced(bytes(data))}
    forged = rewritten(adapted, folder / "f.har", changes)
    assert refused(lambda: use(forged)) in HARMLESS_OR_NAMED


@FEW
@given(source=st.data())
def test_any_record_of_linears(
    adapted: Path, peft: Path, folder: Path, source: st.DataObject
) -> None:
    plain = msgpack.unpackb(opened(adapted).section(sections.LINEARS))
    changed = source.draw(mutated(plain))
    with suppress(OverflowError, ValueError):
        packed = msgpack.packb(changed)
        forged = rewritten(adapted, folder / "f.har", {sections.LINEARS: replaced(packed)})
        before = forged.read_bytes()
        code = refused(lambda: add_adapter(opened(forged), "clerk", peft))
        assert code in HARMLESS_OR_NAMED
        assert not code or forged.read_bytes() == before


def first(**changes: object) -> Callable[[Linears], Linears]:
    def change(linears: Linears) -> Linears:
        record, *others = linears.linears
        return replace(linears, linears=(replace(record, **changes), *others))  # type: ignore[arg-type]

    return change


def turned(**changes: object) -> Callable[[Linears], Linears]:
    def change(linears: Linears) -> Linears:
        turn, *others = linears.turns
        return replace(linears, turns=(replace(turn, **changes), *others))  # type: ignore[arg-type]

    return change


@pytest.mark.parametrize(
    "change",
    [
        {sections.LINEARS: typed(Linears, first(weight="none"))},
        {sections.LINEARS: typed(Linears, first(columns=1 << 20))},
        {sections.LINEARS: typed(Linears, first(rows=1 << 20))},
        {sections.LINEARS: typed(Linears, first(turned_columns=99))},
        {sections.LINEARS: typed(Linears, first(turned_rows=TurnedRows(0, 3, 0)))},
        {sections.LINEARS: typed(Linears, lambda linears: replace(linears, turns=()))},
        {sections.LINEARS: typed(Linears, turned(size=39))},
        {sections.LINEARS: typed(Linears, turned(signs=1 << 20))},
        {sections.LINEARS: typed(Linears, turned(factors=(Factor(1 << 30, 0),)))},
        {sections.LINEAR_VECTORS: lambda data: data[:-1]},
        {sections.LINEAR_VECTORS: lambda data: data[:-4]},
        {sections.LINEAR_VECTORS: lambda data: np.full(len(data) // 4, np.nan, "<f4").tobytes()},
    ],
    ids=[
        "weight",
        "columns",
        "rows",
        "no such turn",
        "cut spans",
        "no turns",
        "width",
        "signs",
        "factors",
        "bytes",
        "values",
        "not_finite",
    ],
)
def test_a_record_that_does_not_fit_is_named(
    adapted: Path, peft: Path, tmp_path: Path, change: dict[str, Callable[[bytes], bytes]]
) -> None:
    forged = rewritten(adapted, tmp_path / "f.har", change)
    assert refused(lambda: add_adapter(opened(forged), "clerk", peft)) == "archive.inconsistent"


@pytest.mark.parametrize(
    ("codes", "code"),
    [
        ((0.5, 3.0), ""),
        ((0.0, 0.0), "archive.inconsistent"),
        ((0.5, 128.0), "archive.inconsistent"),
    ],
)
def test_static_codes_that_cannot_be_are_named(
    adapted: Path, peft: Path, tmp_path: Path, codes: tuple[float, float], code: str
) -> None:
    def coded(command: Command) -> Command:
        static = f"{command.op}_static"
        if static not in BY_NAME:
            return command
        return replace(command, op=static, floats=(*command.floats, *codes))

    def change(program: Program) -> Program:
        entries = {
            name: replace(entry, commands=tuple(map(coded, entry.commands)))
            for name, entry in program.entries.items()
        }
        return replace(program, entries=entries)

    changes = {sections.PROGRAM: typed(Program, change)}
    forged = rewritten(adapted, tmp_path / "f.har", changes)
    assert refused(lambda: add_adapter(opened(forged), "clerk", peft)) == code
