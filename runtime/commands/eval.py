"""`hearth eval`: perplexity of an archive on a text, its distance from another archive, accuracy in multiple choice."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hearth.runtime.commands.common_options import IsaOption, JsonOption, ThreadsOption
from hearth.runtime.commands.terminal import emit, emit_json
from hearth.runtime.options import Options, read_options
from hearth.runtime.progress import Progress, choose, step
from hearth.schemas.errors import InputError, UsageError

if TYPE_CHECKING:
    from hearth.runtime import native
    from hearth.runtime.evaluation import Choices, Perplexity
    from hearth.runtime.model import Model
    from hearth.runtime.session import Reader

WINDOW = 512


def eval_command(
    file: Annotated[Path, typer.Argument(help="the .har file")],
    text: Annotated[
        Path | None, typer.Option(help="UTF-8 text whose perplexity is measured")
    ] = None,
    context: Annotated[
        int, typer.Option(help="tokens of a window; the cache is empty at its start")
    ] = WINDOW,
    stride: Annotated[
        int | None,
        typer.Option(help="tokens from one window to the next; fewer than --context overlap them"),
    ] = None,
    windows: Annotated[
        int | None, typer.Option("--windows", help="windows to read; all of the text")
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(help="an archive of the same vocabulary, in f32 say, to compare with"),
    ] = None,
    adapter: Annotated[
        str | None, typer.Option(help="read with an adapter of the archive: NAME or NAME:SCALE")
    ] = None,
    against_adapter: Annotated[
        str | None, typer.Option(help="an adapter of the archive of --against")
    ] = None,
    hellaswag: Annotated[
        Path | None, typer.Option(help="multiple choice: six lines an item, or packed by bzip2")
    ] = None,
    items: Annotated[int | None, typer.Option(help="items of --hellaswag to answer; all")] = None,
    threads: ThreadsOption = None,
    isa: IsaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure what an archive predicts: perplexity, divergence from another archive, multiple choice."""
    if text is None and hellaswag is None:
        raise UsageError(
            "arguments.eval", "nothing to evaluate on", expected="--text or --hellaswag"
        )
    counts = {"--context": context, "--stride": stride, "--windows": windows, "--items": items}
    for name, count in counts.items():
        if count is not None and count < 1:
            raise UsageError("arguments.eval", f"{name} {count}", expected="at least 1")
    if against_adapter is not None and against is None:
        raise UsageError("arguments.eval", "--against-adapter alone", expected="--against with it")
    if stride is not None and stride > context:
        raise UsageError("arguments.eval", f"--stride {stride}", expected=f"at most {context}")
    options, progress = read_options(threads, isa), choose(quiet=as_json)
    subject = _subject(file, adapter, options)
    found: dict[str, Any] = {**subject.facts, "isa": subject.model.isa}
    reference = None if against is None else _subject(against, against_adapter, options)
    if text is not None:
        cut = Cut(context, stride or context, windows)
        found |= on_text(subject, reference, text, cut, progress)
    if hellaswag is not None:
        found["hellaswag"] = on_items(subject, reference, hellaswag, items, progress)
    emit_json(found) if as_json else emit(as_text(found))


@dataclass(frozen=True, eq=False)
class Subject:
    """A loaded archive, and what reads texts with it: itself, or it with an adapter (named as the option named it)."""

    model: Model
    reader: Reader[native.State]
    adapter: str | None

    @property
    def facts(self) -> dict[str, str]:
        """As plain data."""
        file = {"file": self.model.archive.path.name}
        return file if self.adapter is None else {**file, "adapter": self.adapter}


def _subject(file: Path, adapter: str | None, options: Options) -> Subject:
    from hearth.runtime.adapters import AdapterUse
    from hearth.runtime.evaluation import Adapted
    from hearth.runtime.loader import load

    model = load(file, options.threads, isa=options.isa, **options.placing.wishes())
    if adapter is None:
        return Subject(model, model, None)
    return Subject(model, Adapted(model, AdapterUse.parse(adapter)), adapter)


@dataclass(frozen=True)
class Cut:
    """How a text becomes windows."""

    context: int
    stride: int
    most: int | None


def on_text(
    subject: Subject, reference: Subject | None, text: Path, cut: Cut, progress: Progress
) -> dict[str, Any]:
    """Perplexity and, with a reference, how far from it, as plain data."""
    from hearth.runtime.evaluation import compare, perplexity, windows
    from hearth.runtime.evaluation.text import read_text

    model = subject.model
    for each in (model, None if reference is None else reference.model):
        if each is not None and cut.context > each.context:
            raise UsageError(
                "arguments.eval",
                f"--context {cut.context}",
                expected=f"at most {each.context}, the context of {each.archive.path.name}",
            )
    if reference is not None:
        _check_vocabulary(model, reference.model)
    ids = model.tokenizer.encode(read_text(text), add_special_tokens=False)
    texts = windows(ids, cut.context, cut.most, cut.stride)
    size = {"windows": len(texts), "context": cut.context, "stride": cut.stride}
    with step(progress, "eval", len(texts) * cut.context) as advance:
        if reference is None:
            return _plain(perplexity(subject.reader, texts, advance)) | size
        found = compare(subject.reader, reference.reader, texts, advance)
    against = {
        **reference.facts,
        "perplexity": found.reference.value,
        "increase": found.increase,
        "increase_error": found.increase_error,
        "kld": found.kld,
        "kld_error": found.kld_error,
        "kld_99": found.kld_99,
        "top1": found.top1,
        "max_difference": found.max_difference,
    }
    return _plain(found.model) | size | {"against": against}


def _check_vocabulary(model: Model, reference: Model) -> None:
    if reference.vocab != model.vocab:
        raise InputError(
            "input.vocabulary",
            f"{reference.vocab} logits, and {model.vocab} of {model.archive.path}",
            expected="archives of one vocabulary",
            where=str(reference.archive.path),
        )


def _plain(found: Perplexity) -> dict[str, Any]:
    return {
        "tokens": found.tokens,
        "perplexity": found.value,
        "perplexity_error": found.error,
        "perplexity_base_2": 2**found.bits,
        "bits_per_token": found.bits,
    }


def on_items(
    subject: Subject, reference: Subject | None, path: Path, most: int | None, progress: Progress
) -> dict[str, Any]:
    """Accuracy in multiple choice, and of a reference beside it, as plain data."""
    from hearth.runtime.evaluation import answer, read_items
    from hearth.runtime.evaluation.text import unreadable

    try:
        items = read_items(path, most)
    except (OSError, UnicodeDecodeError, EOFError) as error:
        raise unreadable(path, error) from None
    subjects = [subject] if reference is None else [subject, reference]
    with step(progress, "hellaswag", len(subjects) * len(items)) as advance:
        found = [answer(each.reader, each.model.tokenizer, items, advance) for each in subjects]
    shown: dict[str, Any] = {"items": len(items), **_accuracy(found[0])}
    if reference is not None:
        same = {
            "same": float((found[0].chosen == found[1].chosen).mean()),
            "same_norm": float((found[0].chosen_norm == found[1].chosen_norm).mean()),
        }
        shown["against"] = {**reference.facts, **_accuracy(found[1]), **same}
    return shown


def _accuracy(found: Choices) -> dict[str, float]:
    return {
        "accuracy": found.accuracy,
        "accuracy_norm": found.accuracy_norm,
        "error": found.error,
    }


def _named(facts: dict[str, Any]) -> str:
    adapter = facts.get("adapter")
    return str(facts["file"]) + (f" with {adapter}" if adapter else "")


def as_text(found: dict[str, Any]) -> str:
    """The same for people."""
    lines = []
    if "perplexity" in found:
        error = found["perplexity_error"]
        spread = "" if error is None else f" +- {error:.4f}"
        lines.append(
            f"perplexity {found['perplexity']:.4f}{spread} = 2 ^ {found['bits_per_token']:.4f} bits a token, "
            f"{found['tokens']:,} tokens in {found['windows']} windows of {found['context']}"
            + ("" if found["stride"] == found["context"] else f", {found['stride']} apart")
        )
    if against := found.get("against"):
        lines.append(
            f"against {_named(against)}: perplexity {against['perplexity']:.4f}, "
            f"{against['increase']:+.2%} +- {against['increase_error']:.2%}\n"
            f"KL divergence {against['kld']:.5f} nats, 99 % below {against['kld_99']:.5f}; "
            f"same first choice {against['top1']:.2%}; largest difference of a probability "
            f"{against['max_difference']:.4f}"
        )
    if choices := found.get("hellaswag"):
        lines.append(
            f"hellaswag {choices['accuracy_norm']:.2%} +- {choices['error']:.2%} by bytes, "
            f"{choices['accuracy']:.2%} by sums, of {choices['items']} items"
        )
        if other := choices.get("against"):
            lines.append(
                f"against {_named(other)}: {other['accuracy_norm']:.2%} by bytes, {other['accuracy']:.2%} by sums; "
                f"same answers {other['same_norm']:.2%} and {other['same']:.2%}"
            )
    return "\n".join(lines) + "\n"
