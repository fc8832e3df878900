"""Adapters in archives: added, listed, used, removed; corrupted ones are refused, and a crash leaves what was there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from support.checkpoint import write_checkpoint
from support.command_line import hearth
from support.compiling import wanted
from support.lora import Peft, write_peft

from hearth.compiler.lora.add import add_adapter
from hearth.compiler.pipeline import compile_model
from hearth.runtime import AdapterUse, Model, Turn, load, step
from hearth.runtime.archive import open_archive
from hearth.runtime.lora.stored import remove_adapter, stored_adapters
from hearth.schemas import sections
from hearth.schemas.codec import dumps, loads
from hearth.schemas.errors import ArchiveError, HearthError
from hearth.schemas.lora import AdapterWeights, Lora

IDS = [int(each) for each in np.random.default_rng(5).integers(0, 97, 12)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stored")


@pytest.fixture(scope="module")
def peft(folder: Path) -> Path:
    source = write_checkpoint(folder / "source")
    write_peft(folder / "other", source, Peft(rank=2, seed=1))
    return write_peft(folder / "peft", source)


@pytest.fixture(scope="module")
def plain(folder: Path, peft: Path) -> Path:
    compile_model(folder / "source", folder / "plain.har", wanted(weights="int8"))
    return folder / "plain.har"


@pytest.fixture
def file(plain: Path, tmp_path: Path) -> Path:
    path = tmp_path / "m.har"
    path.write_bytes(plain.read_bytes())
    return path


@pytest.fixture
def adapted(file: Path, peft: Path) -> Path:
    """With two adapters of other ranks and forms."""
    add_adapter(open_archive(file), "poet", peft)
    add_adapter(open_archive(file), "clerk", peft.parent / "other", AdapterWeights.F16)
    return file


def answer(model: Model, use: AdapterUse | None, ids: list[int] = IDS) -> np.ndarray:
    return model.session(adapter=use).prefill(ids)


def test_adding_and_removing_leaves_the_base_as_it_was(plain: Path, adapted: Path) -> None:
    before, after = open_archive(plain), open_archive(adapted)
    first = before.header.directory_offset
    assert adapted.read_bytes()[64:first] == plain.read_bytes()[64:first]
    assert after.fingerprint == before.fingerprint
    model = load(adapted)
    assert {name: each.rank for name, each in model.adapters.items()} == {"poet": 4, "clerk": 2}
    assert np.array_equal(answer(model, None), answer(load(plain), None))
    remove_adapter(after, "poet")
    assert list(load(adapted).adapters) == ["clerk"]
    with pytest.raises(HearthError, match="clerk") as caught:
        remove_adapter(open_archive(adapted), "poet")
    assert caught.value.code == "arguments.adapter"
    assert np.array_equal(
        answer(load(adapted), AdapterUse("clerk")), answer(model, AdapterUse("clerk"))
    )


def test_a_name_is_free_again_once_its_adapter_is_removed(adapted: Path, peft: Path) -> None:
    expected = answer(load(adapted), AdapterUse("poet"))
    with pytest.raises(HearthError) as caught:
        add_adapter(open_archive(adapted), "poet", peft)
    assert caught.value.code == "arguments.adapter_name"
    remove_adapter(open_archive(adapted), "poet")
    add_adapter(open_archive(adapted), "poet", peft)
    assert np.array_equal(answer(load(adapted, check="full"), AdapterUse("poet")), expected)


def test_the_default_of_a_model_and_the_choice_of_a_session(adapted: Path) -> None:
    model = load(adapted)
    poet, none = answer(model, AdapterUse("poet")), answer(model, None)
    assert not np.array_equal(poet, none)
    model.use_adapter("poet")
    assert np.array_equal(model.session().prefill(IDS), poet)
    session = model.session()
    session.use_adapter(None)
    assert np.array_equal(session.prefill(IDS), none)
    model.use_adapter(None)
    assert np.array_equal(model.session().prefill(IDS), none)
    half = answer(model, AdapterUse("poet", 0.5))
    assert not np.array_equal(half, poet)


def test_chunks_threads_and_decoding_one_by_one_change_no_bit(adapted: Path) -> None:
    use = AdapterUse("poet", 0.8)
    expected = answer(load(adapted, threads=1), use)
    for threads in (1, 2, 3):
        model = load(adapted, threads=threads)
        for chunk in (1, 3, 8, 12):
            assert np.array_equal(model.session(chunk, use).prefill(IDS), expected)
        session = model.session(adapter=use)
        for token in IDS:
            found = session.decode(token)
        assert np.array_equal(found, expected)


def test_conversations_with_other_adapters_in_one_batch_are_what_each_is_alone(
    adapted: Path,
) -> None:
    model = load(adapted, threads=2)
    uses = [AdapterUse("poet"), None, AdapterUse("clerk"), AdapterUse("poet", 0.3), None]
    prompts = [IDS[at:] for at in range(len(uses))]
    sessions = [model.session(adapter=use) for use in uses]
    found = [step([Turn(s, ids) for s, ids in zip(sessions, prompts, strict=True)])]
    found += [step([Turn(session, [token]) for session in sessions]) for token in (3, 5, 8)]
    for at, (use, ids) in enumerate(zip(uses, prompts, strict=True)):
        alone = model.session(adapter=use)
        assert np.array_equal(found[0][at].reshape(-1), alone.prefill(ids))
        for together, token in zip(found[1:], (3, 5, 8), strict=True):
            assert np.array_equal(together[at].reshape(-1), alone.decode(token))


def _meta(change: Callable[[Lora], Lora]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        archive = open_archive(path)
        name = sections.lora_section("poet")
        lora = loads(Lora, archive.section(name), name)
        _append(path, name, dumps(change(lora)))

    return damage


def _append(path: Path, name: str, data: bytes) -> None:
    from hearth.runtime.archive import append

    kind = open_archive(path).entries[name].kind
    append(path, [(name, kind, data)], replace={name})


def _lora(**changed: object) -> Callable[[Lora], Lora]:
    from dataclasses import replace

    return lambda lora: replace(lora, **changed)  # type: ignore[arg-type]


def _first(**changed: object) -> Callable[[Lora], Lora]:
    from dataclasses import replace

    def change(lora: Lora) -> Lora:
        first = replace(lora.linears[0], **changed)  # type: ignore[arg-type]
        return replace(lora, linears=(first, *lora.linears[1:]))

    return change


def _data(path: Path) -> None:
    _append(path, sections.lora_data_section("poet"), b"\1" * 4096)


def _meta_bytes(path: Path) -> None:
    _append(path, sections.lora_section("poet"), b"\xc1")


DAMAGES: dict[str, Callable[[Path], None]] = {
    "another archive": _meta(_lora(fingerprint="0" * 64)),
    "data of another length": _meta(_lora(data_nbytes=64)),
    "data of another hash": _meta(_lora(data_sha256="0" * 64)),
    "other data": _data,
    "no msgpack": _meta_bytes,
    "a weight that is none": _meta(_first(offset=1)),
    "A outside": _meta(_first(a=1 << 40)),
    "B outside": _meta(_first(b=1 << 20)),
    "too many ranks": _meta(_first(ranks=1000)),
    "another form": _meta(_lora(weights=AdapterWeights.F32)),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_corrupted_adapter_is_refused_and_the_base_goes_on(
    damage: Callable[[Path], None], adapted: Path, plain: Path
) -> None:
    damage(adapted)
    model = load(adapted)
    with pytest.raises(ArchiveError) as caught:
        answer(model, AdapterUse("poet"))
    assert caught.value.code in ("archive.adapter", "archive.schema")
    assert np.array_equal(answer(model, None), answer(load(plain), None))
    assert hearth("verify", adapted) == ArchiveError.exit_code


def test_any_byte_of_the_matrices_that_changed_is_seen_by_a_full_check(adapted: Path) -> None:
    section = open_archive(adapted).entries[sections.lora_data_section("clerk")]
    data = bytearray(adapted.read_bytes())
    data[section.offset + section.nbytes // 2] ^= 1
    adapted.write_bytes(data)
    with pytest.raises(ArchiveError) as caught:
        open_archive(adapted, "full")
    assert caught.value.code == "archive.section_hash"


def _lengths(plain: Path, adapted: Path) -> Iterator[int]:
    """Where a crash may have ended the file, the header not yet written."""
    start, end = plain.stat().st_size, adapted.stat().st_size
    yield from np.linspace(start, end, 9).astype(int).tolist()


def test_a_crash_while_adding_leaves_the_old_archive(
    plain: Path, adapted: Path, tmp_path: Path
) -> None:
    header, whole = plain.read_bytes()[:64], adapted.read_bytes()
    for length in _lengths(plain, adapted):
        path = tmp_path / "crashed.har"
        path.write_bytes(header + whole[64:length])
        model = load(path, check="full")
        assert not model.adapters
        assert np.array_equal(answer(model, None), answer(load(plain), None))


def test_the_verbs(file: Path, peft: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert hearth("lora", "list", file) == 0
    assert "no adapters" in capsys.readouterr().out
    assert hearth("lora", "add", file, "poet", peft, "--json") == 0
    added = json.loads(capsys.readouterr().out)
    assert (added["rank"], added["weights"], added["modules"]) == (4, "int8", 14)
    assert hearth("lora", "add", file, "exact", peft, "--weights", "f32") == 0
    assert "rank 4, 14 modules" in capsys.readouterr().out
    assert hearth("lora", "list", file) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [
        "adapter", "poet", "exact",
    ]  # fmt: skip
    assert hearth("inspect", file) == 0
    assert "poet" in capsys.readouterr().out
    assert hearth("inspect", file, "--json") == 0
    assert json.loads(capsys.readouterr().out)["adapters"][0]["name"] == "poet"
    assert hearth("verify", file) == 0
    assert "adapters       passed   poet, exact" in capsys.readouterr().out
    ids = " ".join(map(str, IDS))
    texts = []
    for asked in ((), ("--adapter", "poet"), ("--adapter", "poet:-3")):
        assert hearth("run", file, ids, "--ids", "--max-tokens", 12, *asked) == 0
        texts.append(capsys.readouterr().out)
    assert len(set(texts)) == 3
    assert hearth("run", file, ids, "--ids", "--adapter", "pote") == 2
    assert "[arguments.adapter]" in capsys.readouterr().err
    assert hearth("lora", "remove", file, "poet", "--json") == 0
    assert hearth("lora", "remove", file, "poet") == 2
    assert list(stored_adapters(open_archive(file))) == ["exact"]
    assert hearth("lora", "add", file, "x", peft, "--weights", "int5") == 2


def test_diff_tells_adapters_apart(
    adapted: Path, plain: Path, tmp_path: Path, peft: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.har"
    other.write_bytes(plain.read_bytes())
    add_adapter(open_archive(other), "poet", peft.parent / "other")
    assert hearth("diff", adapted, other) != 0
    out = capsys.readouterr().out
    assert "lora/poet" in out
    assert "lora/clerk" in out
    assert "rank" in out
