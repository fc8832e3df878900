"""`hearth noise`: where an archive loses precision against the source it was compiled from."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hearth.runtime.commands.terminal import emit, emit_json, table
from hearth.runtime.options import read_options
from hearth.schemas.errors import ResourceError, UsageError

if TYPE_CHECKING:
    from hearth.compiler.check.blocks import Ids
    from hearth.compiler.judge.noise import TensorNoise
    from hearth.runtime.archive import Archive
    from hearth.runtime.progress import Progress

WINDOWS, CONTEXT = 2, 256


def noise_command(
    file: Annotated[Path, typer.Argument(help="the .har file of a decoder")],
    source: Annotated[Path, typer.Option(help="the checkpoint that it was compiled from")],
    text: Annotated[Path, typer.Option(help="UTF-8 text that both read")],
    calibration: Annotated[
        Path | None, typer.Option(help="the text that a smoothed archive was calibrated on")
    ] = None,
    windows: Annotated[int, typer.Option(help="windows of it to read")] = WINDOWS,
    context: Annotated[int, typer.Option(help="tokens of a window")] = CONTEXT,
    svg: Annotated[Path | None, typer.Option(help="file for a picture of the table")] = None,
    threads: Annotated[
        int | None, typer.Option(help="HEARTH_THREADS, else the cores there are")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """Measure the signal-to-noise ratio of every weight of an archive, alone and with all before it."""
    from hearth.runtime.archive import open_archive
    from hearth.runtime.progress import choose

    for name, count, least in (("--windows", windows, 1), ("--context", context, 2)):
        if count < least:
            raise UsageError("arguments.noise", f"{name} {count}", expected=f"at least {least}")
    count = read_options(threads, None).threads or 0
    archive = open_archive(file)
    calls = _calls(archive, text, windows, context)
    found = measure(archive, source, calls, count, choose(quiet=as_json), calibration)
    if svg is not None:
        _write(svg, picture(file.name, found))
    if as_json:
        emit_json({"file": file.name, "tensors": [asdict(each) for each in found]})
    else:
        emit(as_text(found))


def _calls(archive: Archive, text: Path, windows: int, context: int) -> list[Ids]:
    from hearth.compiler.judge.text import text_windows
    from hearth.runtime.loader import model_of

    model = model_of(archive)
    if context > model.context:
        raise UsageError(
            "arguments.noise", f"--context {context}", expected=f"at most {model.context}"
        )
    return [{"tokens": window.ids} for window in text_windows(model, text, context, windows)]


def measure(
    archive: Archive,
    source: Path,
    calls: list[Ids],
    threads: int,
    progress: Progress,
    calibration: Path | None = None,
) -> list[TensorNoise]:
    """The source after the recorded passes and transforms beside the same graph with the archive's weights.

    InputError input.not_source where the archive was made of something else.
    """
    from hearth.compiler.judge.noise import every_row, linears, noise
    from hearth.compiler.judge.rebuild import rebuilt
    from hearth.runtime.progress import step

    floats, coded = rebuilt(archive, source, calibration, threads)
    entries = {entry.name: entry for entry in archive.weights_index.tensors}

    def bits(name: str) -> tuple[str, float]:
        entry = entries[name]
        layout = "f32" if entry.layout is None else entry.layout.name.lower()
        form = f"{layout} g{entry.group}" if entry.group else layout
        return form, 8 * entry.nbytes / max(entry.parameters, 1)

    with step(progress, "noise", len(linears(every_row(floats)))) as advance:
        return noise(floats, coded, calls, bits, threads=threads, advance=advance)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ResourceError(
            "resource.output", f"the picture cannot be written: {error.strerror}", where=str(path),
            remedy="look at the folder and the disk",
        ) from None  # fmt: skip


def picture(name: str, found: list[TensorNoise]) -> str:
    """The table as a chart."""
    from hearth.compiler.judge.picture import chart

    lines = {
        "alone": [each.alone for each in found],
        "together": [each.together for each in found],
    }
    title = f"signal to noise of {name}"
    return chart(title, "dB", [each.name for each in found], lines)


def as_text(found: list[TensorNoise]) -> str:
    """A row for each weight; a star marks those that add to the residual stream."""
    head = ("weight", "form", "bits", "alone dB", "together dB", "")
    rows = [
        (
            each.name,
            each.form,
            f"{each.bits:.2f}",
            _decibels(each.alone),
            _decibels(each.together),
            "*" if each.stream else "",
        )
        for each in found
    ]
    worst = min((each for each in found if each.alone is not None), key=_alone, default=None)
    note = (
        ""
        if worst is None
        else f"most noise of its own: {worst.name}, {_decibels(worst.alone)} dB\n"
    )
    return table([head, *rows]) + f"\n* its linear adds to the residual stream\n{note}"


def _alone(each: TensorNoise) -> float:
    assert each.alone is not None
    return each.alone


def _decibels(value: float | None) -> str:
    return "exact" if value is None else f"{value:.2f}"
