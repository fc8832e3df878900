"""`hearth eval`: perplexity of an archive on a text, its distance from another archive, accuracy in multiple choice."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hearth.runtime.commands.arguments import IsaOption, ThreadsOption
from hearth.runtime.commands.terminal import emit, emit_json
from hearth.runtime.options import Options, read_options
from hearth.runtime.progress import Progress, choose, step
from hearth.schemas.errors import InputError, ResourceError, UsageError

if TYPE_CHECKING:
    from hearth.runtime.evaluation import Perplexity
    from hearth.runtime.model import Model

WINDOW = 512


def eval_command(
    file: Annotated[Path, typer.Argument(help="the .har file")],
    text: Annotated[
        Path | None, typer.Option(help="UTF-8 text whose perplexity is measured")
    ] = None,
    context: Annotated[
        int, typer.Option(help="tokens of a window; the cache is empty at its start")
    ] = WINDOW,
    windows: Annotated[
        int | None, typer.Option("--windows", help="windows to read; all of the text")
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(help="an archive of the same vocabulary, in f32 say, to compare with"),
    ] = None,
    hellaswag: Annotated[
        Path | None, typer.Option(help="multiple choice: six lines an item, or packed by bzip2")
    ] = None,
    items: Annotated[int | None, typer.Option(help="items of --hellaswag to answer; all")] = None,
    threads: ThreadsOption = None,
    isa: IsaOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """Measure what an archive predicts: perplexity, divergence from another archive, multiple choice."""
    if text is None and hellaswag is None:
        raise UsageError(
            "arguments.eval", "nothing to evaluate on", expected="--text or --hellaswag"
        )
    if against is not None and text is None:
        raise UsageError(
            "arguments.eval", "--against without --text", expected="a text to compare on"
        )
    counts = {"--context": context, "--windows": windows, "--items": items}
    for name, count in counts.items():
        if count is not None and count < 1:
            raise UsageError("arguments.eval", f"{name} {count}", expected="at least 1")
    options, progress = read_options(threads, isa), choose(quiet=as_json)
    model = _load(file, options)
    found: dict[str, Any] = {"file": file.name, "isa": model.isa}
    if text is not None:
        reference = None if against is None else _load(against, options)
        found |= on_text(model, reference, text, context, windows, progress)
    if hellaswag is not None:
        found["hellaswag"] = on_items(model, hellaswag, items, progress)
    emit_json(found) if as_json else emit(as_text(found))


def _load(file: Path, options: Options) -> Model:
    from hearth.runtime.loader import load

    return load(file, options.threads, isa=options.isa, **options.placing.wishes())


def on_text(
    model: Model,
    reference: Model | None,
    text: Path,
    context: int,
    most: int | None,
    progress: Progress,
) -> dict[str, Any]:
    """Perplexity and, with a reference, how far from it, as plain data."""
    from hearth.runtime.evaluation import compare, perplexity, windows

    for each in (model, reference):
        if each is not None and context > each.context:
            raise UsageError(
                "arguments.eval",
                f"--context {context}",
                expected=f"at most {each.context}, the context of {each.archive.path.name}",
            )
    if reference is not None and reference.vocab != model.vocab:
        raise InputError(
            "input.vocabulary",
            f"{reference.vocab} logits, and {model.vocab} of {model.archive.path}",
            expected="archives of one vocabulary",
            where=str(reference.archive.path),
        )
    ids = model.tokenizer.encode(_read(text), add_special_tokens=False)
    texts = windows(ids, context, most)
    with step(progress, "eval", len(texts) * context) as advance:
        if reference is None:
            return _plain(perplexity(model, texts, advance)) | _size(len(texts), context)
        found = compare(model, reference, texts, advance)
    against = {
        "file": reference.archive.path.name,
        "perplexity": found.reference.value,
        "increase": found.increase,
        "kld": found.kld,
        "kld_99": found.kld_99,
        "top1": found.top1,
        "max_difference": found.max_difference,
    }
    return _plain(found.model) | _size(len(texts), context) | {"against": against}


def _plain(found: Perplexity) -> dict[str, Any]:
    return {
        "tokens": found.tokens,
        "perplexity": found.value,
        "perplexity_error": found.error,
        "bits_per_token": found.bits,
    }


def _size(count: int, context: int) -> dict[str, int]:
    return {"windows": count, "context": context}


def on_items(model: Model, path: Path, most: int | None, progress: Progress) -> dict[str, Any]:
    """Accuracy in multiple choice, as plain data."""
    from hearth.runtime.evaluation import answer, read_items

    try:
        items = read_items(path, most)
    except (OSError, UnicodeDecodeError, EOFError) as error:
        raise _unreadable(path, error) from None
    with step(progress, "hellaswag", len(items)) as advance:
        found = answer(model, model.tokenizer, items, advance)
    return {
        "items": found.items,
        "accuracy": found.accuracy,
        "accuracy_norm": found.accuracy_norm,
        "error": found.error,
    }


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> InputError | ResourceError:
    if isinstance(error, UnicodeDecodeError):
        found = f"the text is not UTF-8 at byte {error.start}"
        return InputError("input.text", found, expected="UTF-8", where=str(path))
    return ResourceError(
        "resource.unreadable",
        f"cannot be read: {getattr(error, 'strerror', None) or error}",
        where=str(path),
        remedy="look at its name and its permissions",
    )


def as_text(found: dict[str, Any]) -> str:
    """The same for people."""
    lines = []
    if "perplexity" in found:
        error = found["perplexity_error"]
        spread = "" if error is None else f" +- {error:.4f}"
        lines.append(
            f"perplexity {found['perplexity']:.4f}{spread} ({found['bits_per_token']:.4f} bits a token), "
            f"{found['tokens']:,} tokens in {found['windows']} windows of {found['context']}"
        )
    if against := found.get("against"):
        lines.append(
            f"against {against['file']}: perplexity {against['perplexity']:.4f}, {against['increase']:+.2%}\n"
            f"KL divergence {against['kld']:.5f} nats, 99 % below {against['kld_99']:.5f}; "
            f"same first choice {against['top1']:.2%}; largest difference of a probability "
            f"{against['max_difference']:.4f}"
        )
    if choices := found.get("hellaswag"):
        lines.append(
            f"hellaswag {choices['accuracy_norm']:.2%} +- {choices['error']:.2%} by bytes, "
            f"{choices['accuracy']:.2%} by sums, of {choices['items']} items"
        )
    return "\n".join(lines) + "\n"
