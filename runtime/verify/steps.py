"""The steps of `hearth verify`: each proves one thing of the subject, says what it saw, or raises the error."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from hearth.runtime.archive.consistency import check_consistency
from hearth.runtime.archive.content import RECORDS
from hearth.runtime.archive.reader import check_hash
from hearth.runtime.binding import bind, checked_isa
from hearth.runtime.contexts.prompt import described
from hearth.runtime.loader import any_of
from hearth.runtime.lora.stored import adapter_names, bind_adapter, stored_adapters
from hearth.runtime.model import Model
from hearth.runtime.progress import step
from hearth.runtime.signing import check_signature, read_signature
from hearth.runtime.text.chat_template import ChatTemplate
from hearth.runtime.verify.again import compiled_again
from hearth.runtime.verify.golden import count_cases, replay, tokens_of
from hearth.runtime.verify.plan import PlanError, check
from hearth.runtime.verify.prompts import computed, prompt_ids
from hearth.runtime.verify.schema import check_schemas
from hearth.runtime.verify.subject import Skip, Subject, mismatch
from hearth.runtime.verify.texts import (
    chat_case,
    chat_differences,
    clock,
    text_case,
    text_differences,
)
from hearth.schemas import sections
from hearth.schemas.errors import InputError
from hearth.schemas.sections import Kind

MOST_TOKENS = (
    1 << 16
)  # no compile records as many; a forged archive must not keep a machine busy for hours

ADAPTERS = {Kind.LORA, Kind.LORA_DATA}  # `hearth lora` adds them to what compile wrote


@dataclass(frozen=True)
class Step:
    """`run` gives what to say of a success; it may raise Skip or a HearthError. `needs` must have passed before."""

    name: str
    run: Callable[[Subject], str]
    needs: tuple[str, ...] = ()


def structure(subject: Subject) -> str:
    """Header, directory, places, padding."""
    found = subject.container
    version, nbytes = found.header.version, found.header.file_nbytes
    behind = subject.path.stat().st_size - nbytes
    more = (
        f"; {behind:,} bytes of an unfinished append behind them, which nothing reads"
        if behind > 0
        else ""
    )
    return f"format {version}, {len(found.directory.sections)} sections, {nbytes:,} bytes{more}"


def hashes(subject: Subject) -> str:
    """Every section's SHA-256."""
    found = subject.container
    total = sum(section.nbytes for section in found.directory.sections)
    with step(subject.progress, "hash", total) as advance:
        for section in found.directory.sections:
            check_hash(found, section, advance)
    return f"{len(found.directory.sections)} sections, content {subject.content_hash[:16]}"


def schema(subject: Subject) -> str:
    """Every part decodes strictly, and fits its JSON Schema where jsonschema is there."""
    return check_schemas(subject)


def consistency(subject: Subject) -> str:
    """The parts agree with each other."""
    check_consistency(subject.archive.parts())
    manifest = subject.archive.manifest
    return f"{manifest.kind} {manifest.source} ({manifest.family})"


def plan(subject: Subject) -> str:
    """The program replayed over the contracts: nothing is read that was not written, nothing overwritten."""
    program = subject.archive.program
    if not program.entries:
        raise Skip("no part of it runs natively")
    try:
        check(program)
    except PlanError as error:
        raise mismatch("plan", f"the program must not run: {error}", subject) from None
    count = sum(len(entry.commands) for entry in program.entries.values())
    return f"{count} commands in {', '.join(program.entries)}"


def adapters(subject: Subject) -> str:
    """Every adapter is of this archive, and its parts lie inside its data."""
    names = adapter_names(subject.archive)
    if not names:
        raise Skip("the archive has no adapters")
    engine, _ = bind(subject.archive, 1, checked_isa(None))
    for stored in stored_adapters(subject.archive).values():
        bind_adapter(subject.archive, engine, stored)
    return ", ".join(names)


def provenance(subject: Subject) -> str:
    """The record is whole and speaks of this archive."""
    record, manifest = subject.provenance, subject.archive.manifest
    pairs = {
        "hearth": (record.hearth, manifest.hearth),
        "source": (record.source, manifest.source),
        "fingerprint": (record.fingerprint, manifest.fingerprint),
        "target": ((record.recipe.get("target"),), manifest.targets),
    }
    for name, (found, wanted) in pairs.items():
        if found != wanted:
            what = f"the provenance record's {name} is {found}, the manifest's {wanted}"
            raise mismatch("provenance", what, subject)
    return f"hearth {record.hearth}, {len(record.files)} source files"


def recorded(subject: Subject) -> str:
    """Every section is the one that compile wrote: also what no vector can show, such as generation defaults."""
    written = subject.provenance.sections
    here = {each.name: each for each in subject.archive.directory.sections}
    for name, digest in written.items():
        if name not in here:
            raise mismatch(
                "provenance", f"{name!r}, a section that compile wrote, is gone", subject
            )
        if here[name].sha256.hex() != digest:
            raise mismatch("provenance", f"section {name!r} is not what compile wrote", subject)
    later = [
        each for name, each in here.items() if name not in written and each.kind not in RECORDS
    ]
    for section in later:
        if section.kind in set(Kind) - ADAPTERS:  # others are passed over by every reader
            raise mismatch("provenance", f"compile wrote no section {section.name!r}", subject)
    more = f"; added later: {', '.join(each.name for each in later)}" if later else ""
    return f"{len(written)} sections are what compile wrote{more}"


def tokenizer(subject: Subject) -> str:
    """Texts give the recorded ids, and those the recorded texts."""
    cases, found = subject.golden.texts, subject.tokenizer
    if found is None and cases:
        raise mismatch("tokenizer", "there are tokenizer vectors, but no tokenizer", subject)
    if found is None:
        raise Skip("the archive has no tokenizer")
    problems = [
        problem for case in cases for problem in text_differences(text_case(found, case.text), case)
    ]
    if problems:
        raise mismatch("tokenizer", f"the tokenizer: {_told(problems)}", subject)
    return f"{len(cases)} texts"


def chat_template(subject: Subject) -> str:
    """Chats give the recorded texts and ids."""
    cases, source = subject.golden.chats, subject.archive.text(sections.CHAT_TEMPLATE)
    if source is None and not cases:
        raise Skip("the archive has no chat template")
    found = subject.tokenizer
    template = ChatTemplate(source or "", found.special if found else {}, clock)
    problems = [
        problem
        for case in cases
        for problem in chat_differences(
            chat_case(template, found, case.turns, case.add_generation_prompt), case
        )
    ]
    if problems:
        raise mismatch("chat_template", f"the chat template: {_told(problems)}", subject)
    return f"{len(cases)} chats"


def prompt(subject: Subject) -> str:
    """The compiled prompt's ids and its keys and values are those that reading its text gives."""
    archive, wanted = subject.archive, subject.wanted
    if sections.PROMPT not in archive.entries:
        raise Skip("no prompt was compiled into it")
    ways = []
    for isa in wanted.isas:
        model = any_of(archive, wanted.threads, isa)
        found = described(model) if isinstance(model, Model) else None
        if not isinstance(model, Model) or found is None:
            raise mismatch("prompt", "there is a prompt that this version cannot use", subject)
        if found.isa not in (None, isa):
            continue
        if prompt_ids(model, found.text) != found.tokens:
            raise mismatch("prompt", "the prompt's text gives other ids than recorded", subject)
        if computed(model, found.tokens).tobytes() != archive.section(sections.PROMPT_KV):
            raise mismatch("prompt", f"{isa}: the prompt's keys and values differ", subject)
        ways.append(isa)
    if not ways:
        raise Skip("its bits are those of an instruction set that was not asked for")
    return f"{len(found.tokens) if found else 0} tokens with {', '.join(ways)}"


def golden(subject: Subject) -> str:
    """The model gives the recorded results: with every instruction set asked for, with one thread and with all."""
    cases = count_cases(subject.golden)
    if not cases:
        raise Skip("no case was recorded")
    if tokens_of(subject.golden) > MOST_TOKENS:
        raise mismatch("golden", f"its cases read {tokens_of(subject.golden)} tokens", subject)
    isas, counts = subject.wanted.isas, tuple(dict.fromkeys((1, subject.wanted.threads)))
    ways = list(product(isas, counts))
    with step(subject.progress, "golden vectors", len(ways)) as advance:
        for isa, threads in ways:
            problems = list(_replayed(subject, threads, isa))
            if problems:
                what = f"{isa} with {threads} threads: {_told(problems)}"
                raise mismatch("golden", what, subject)
            advance(1)
    return f"{cases} cases with {', '.join(isas)} and {' and '.join(map(str, counts))} threads"


def _replayed(subject: Subject, threads: int, isa: str) -> Iterator[str]:
    try:
        yield from replay(subject.archive, subject.golden, threads, isa)
    except InputError as error:
        yield f"a case cannot be run: {error.found}"


def _told(problems: Sequence[str]) -> str:
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return problems[0] + more


def signature(subject: Subject) -> str:
    """Signed by the key that was given; without a key, what there is."""
    if subject.wanted.key is None:
        found = read_signature(subject.archive)
        whose = "it is not signed" if found is None else f"signed by {found.key[:16]}"
        raise Skip(f"no --key was given; {whose}")
    return f"signed by {check_signature(subject.archive, subject.wanted.key)[:16]}"


def source(subject: Subject) -> str:
    """The source compiled again with the recorded recipe gives the same bytes."""
    return compiled_again(subject)


STEPS: Sequence[Step] = (
    Step("structure", structure),
    Step("hashes", hashes, ("structure",)),
    Step("schema", schema, ("hashes",)),
    Step("consistency", consistency, ("schema",)),
    Step("plan", plan, ("consistency",)),
    Step("adapters", adapters, ("plan",)),
    Step("provenance", provenance, ("schema",)),
    Step("tokenizer", tokenizer, ("schema",)),
    Step("chat template", chat_template, ("schema",)),
    Step("golden", golden, ("plan",)),
    Step("prompt", prompt, ("plan", "tokenizer", "chat template")),
    Step("recorded", recorded, ("provenance",)),
    Step("signature", signature, ("hashes",)),
    Step("source", source, ("provenance",)),
)
