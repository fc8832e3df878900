"""`verify` finds every kind of damage and of forgery, each by its step and its code, before and after an append."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from support.forging import Change, opened, replaced, rewritten, typed

from hearth.runtime import native
from hearth.runtime.archive import append
from hearth.runtime.verify.report import Outcome, Report
from hearth.schemas import sections
from hearth.schemas.commands import BY_NAME
from hearth.schemas.golden import Golden
from hearth.schemas.manifest import Manifest
from hearth.schemas.program import Command, Program, Region
from hearth.schemas.provenance import read_provenance, write_provenance
from hearth.schemas.weights_index import WeightsIndex

FLIPS = 100
Run = Callable[..., Report]


def code(report: Report) -> str:
    """The code of the first failure."""
    assert report.failures, [f"{step.name}: {step.detail}" for step in report.steps]
    return report.failures[0].code


def failed(report: Report) -> list[str]:
    return [step.name for step in report.steps if step.outcome is Outcome.FAILED]


@pytest.fixture(params=["as compiled", "after an append"])
def file(request: pytest.FixtureRequest, archive: Path, tmp_path: Path) -> Path:
    """The archive, in both lives."""
    copy = tmp_path / "m.har"
    copy.write_bytes(archive.read_bytes())
    if request.param == "after an append":
        append(copy, [("notes/first", "notes", b"added later"), ("notes/second", "notes", b"")])
    return copy


def test_a_good_archive_passes(file: Path, run: Run) -> None:
    report = run(file, isas=tuple(native.isas()))
    assert report.passed
    assert not failed(report)
    passed = [step.name for step in report.steps if step.outcome is Outcome.PASSED]
    assert passed == [
        "structure", "hashes", "schema", "consistency", "plan", "provenance", "tokenizer",
        "chat template", "golden", "recorded",
    ]  # fmt: skip
    assert len(report.content_hash) == 64


def test_an_append_leaves_what_was_verified(archive: Path, file: Path, run: Run) -> None:
    """Every section of before is there after."""
    before, after = (opened(path).entries for path in (archive, file))
    assert {name: after[name].sha256 for name in before} == {
        name: entry.sha256 for name, entry in before.items()
    }


def test_one_flipped_bit_anywhere_is_found(file: Path, run: Run) -> None:
    """100 random places, and one in each section, in the header, the directory and the padding."""
    data = file.read_bytes()
    container = opened(file)
    rng = random.Random(7)
    places = [rng.randrange(len(data)) for _ in range(FLIPS)]
    places += [each.offset + each.nbytes // 2 for each in container.entries.values() if each.nbytes]
    ends = [each.end for each in container.entries.values()]
    places += [end for end in ends if end % 64]  # padding
    places += [*range(0, 64, 5), container.header.directory_offset + 9, len(data) - 1]
    for place in places:
        spoilt = bytearray(data)
        spoilt[place] ^= 1 << rng.randrange(8)
        file.write_bytes(spoilt)
        report = run(file)
        assert failed(report)[:1] in (["structure"], ["hashes"]), place
        assert code(report).startswith("archive."), place


def eps_doubled(program: Program) -> Program:
    """One attribute of one command: the program still runs, and computes something else."""

    def change(command: Command) -> Command:
        if command.op != "rms_norm_quantize":
            return command
        return replace(command, floats=tuple(1000 * value for value in command.floats))

    return changed(program, change)


def changed(program: Program, change: Callable[[Command], Command]) -> Program:
    entries = {
        name: replace(entry, commands=tuple(map(change, entry.commands)))
        for name, entry in program.entries.items()
    }
    return replace(program, entries=entries)


def overlapping(program: Program) -> Program:
    """The arena as if nothing lived longer than one command."""

    def change(command: Command) -> Command:
        operands = tuple(
            replace(operand, offset=0)
            if operand is not None and operand.region is Region.ARENA
            else operand
            for operand in command.operands
        )
        return replace(command, operands=operands)

    return changed(program, change)


def forged_tokenizer(data: bytes) -> bytes:
    """Every seventh word exchanged with its neighbour: it loads, and is another."""
    values = json.loads(data)
    vocab = values["model"]["vocab"]
    for one, other in list(pairwise(sorted(vocab)))[::7]:
        vocab[one], vocab[other] = vocab[other], vocab[one]
    return json.dumps(values).encode()


def stale(golden: Golden) -> Golden:
    """As another model would have given."""
    first = golden.tokens[0]
    wrong = replace(first, logits="0" * 64)
    return replace(golden, tokens=(wrong, *golden.tokens[1:]))


def other_continuation(golden: Golden) -> Golden:
    last = golden.tokens[-1]
    return replace(golden, tokens=(*golden.tokens[:-1], replace(last, continued="0" * 64)))


def too_long(golden: Golden) -> Golden:
    """More tokens than the context holds."""
    first = golden.tokens[0]
    return replace(golden, tokens=(replace(first, ids=(1,) * 5000),))


def of_another_model(data: bytes) -> bytes:
    return write_provenance(replace(read_provenance(data), fingerprint="0" * 64))


def window_beyond_every_prompt(program: Program) -> Program:
    """No golden prompt is as long."""

    def change(command: Command) -> Command:
        if command.op != "attention":
            return command
        at = BY_NAME[command.op].ints.index("window")
        return replace(command, ints=(*command.ints[:at], 200, *command.ints[at + 1 :]))

    return changed(program, change)


def renamed_tensor(index: WeightsIndex) -> WeightsIndex:
    first, *rest = index.tensors
    return replace(index, tensors=(replace(first, name="another"), *rest))


def one_weight(data: bytes) -> bytes:
    spoilt = bytearray(data)
    for place in range(0, len(spoilt), 1000):
        spoilt[place] ^= 0x11
    return bytes(spoilt)


FORGERIES: Mapping[str, tuple[str, Change | None, str, str]] = {
    "a swapped tokenizer": (sections.TOKENIZER, forged_tokenizer, "tokenizer", "verify.tokenizer"),
    "no tokenizer": (sections.TOKENIZER, None, "tokenizer", "verify.tokenizer"),
    "another chat template": (
        sections.CHAT_TEMPLATE, replaced(b"{{ messages[0].content }}"),
        "chat template", "verify.chat_template",
    ),
    "a changed command": (sections.PROGRAM, typed(Program, eps_doubled), "golden", "verify.golden"),
    "a plan with an overlap": (sections.PROGRAM, typed(Program, overlapping), "plan", "verify.plan"),
    "changed weights": ("weights/x86-64-v3", one_weight, "golden", "verify.golden"),
    "a stale golden": (sections.GOLDEN, typed(Golden, stale), "golden", "verify.golden"),
    "a stale continuation": (
        sections.GOLDEN, typed(Golden, other_continuation), "golden", "verify.golden",
    ),
    "a golden that cannot run": (sections.GOLDEN, typed(Golden, too_long), "golden", "verify.golden"),
    "no golden": (sections.GOLDEN, None, "schema", "archive.missing_section"),
    "another provenance": (
        sections.PROVENANCE, of_another_model, "provenance", "verify.provenance",
    ),
    "no provenance": (sections.PROVENANCE, None, "schema", "archive.missing_section"),
    "a change that no prompt is long enough to show": (
        sections.PROGRAM, typed(Program, window_beyond_every_prompt),
        "recorded", "verify.provenance",
    ),
    "other generation defaults": (
        sections.GENERATION_CONFIG, replaced(b'{"temperature": 9.0}'),
        "recorded", "verify.provenance",
    ),
    "another end of text": (
        sections.MANIFEST, typed(Manifest, lambda manifest: replace(manifest, eos=(5,))),
        "recorded", "verify.provenance",
    ),
    "an index with another name": (
        sections.WEIGHTS_INDEX, typed(WeightsIndex, renamed_tensor),
        "recorded", "verify.provenance",
    ),
    "no generation defaults": (
        sections.GENERATION_CONFIG, None, "recorded", "verify.provenance",
    ),
    "a manifest that is none": (sections.MANIFEST, replaced(b"\x80"), "schema", "archive.schema"),
}  # fmt: skip


@pytest.mark.parametrize("forgery", FORGERIES.values(), ids=FORGERIES)
def test_a_forgery_with_whole_hashes_is_found(
    forgery: tuple[str, Change | None, str, str], file: Path, tmp_path: Path, run: Run
) -> None:
    section, change, step, expected = forgery
    report = run(rewritten(file, tmp_path / "forged.har", {section: change}))
    assert failed(report)[0] == step
    assert code(report) == expected


def test_a_section_that_compile_did_not_write(archive: Path, tmp_path: Path, run: Run) -> None:
    """Unknown kinds may be added, and are named; what a runtime would read may not."""
    source = rewritten(archive, tmp_path / "m.har", {})
    append(source, [("notes", "notes", b"mine")])
    report = run(source)
    assert report.passed
    assert any("added later: notes" in step.detail for step in report.steps)
    append(source, [("weights/other", "weights", b"")])
    assert failed(run(source)) == ["recorded"]


def test_bytes_behind_the_end_are_named(archive: Path, tmp_path: Path, run: Run) -> None:
    """An unfinished append: no reader sees it."""
    (tmp_path / "m.har").write_bytes(archive.read_bytes() + b"12345")
    report = run(tmp_path / "m.har")
    assert report.passed
    assert "; 5 bytes of an unfinished append" in report.steps[0].detail


def test_what_builds_on_a_failed_step_is_not_run(archive: Path, tmp_path: Path, run: Run) -> None:
    """A program that the plan check refuses is never executed."""
    forged = rewritten(
        archive, tmp_path / "forged.har", {sections.PROGRAM: typed(Program, overlapping)}
    )
    outcomes = {step.name: step.outcome for step in run(forged).steps}
    assert outcomes["plan"] is Outcome.FAILED
    assert outcomes["golden"] is Outcome.BLOCKED
    assert outcomes["tokenizer"] is Outcome.PASSED


@pytest.mark.parametrize("content", [b"", b"no archive", b"\x89HAR\r\n\x1a\n" + bytes(56)])
def test_what_is_no_archive_fails_its_first_step(content: bytes, tmp_path: Path, run: Run) -> None:
    path = tmp_path / "m.har"
    path.write_bytes(content)
    report = run(path)
    assert failed(report) == ["structure"]
    assert report.content_hash == ""


def test_a_file_that_is_not_there(tmp_path: Path, run: Run) -> None:
    assert code(run(tmp_path / "none.har")) == "archive.not_found"
