"""`hearth verify`: prove that an archive is whole, and that this machine computes what it promises."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hearth.runtime.commands.common_options import JsonOption
from hearth.runtime.commands.groups import spread
from hearth.runtime.commands.terminal import duration, emit, emit_json
from hearth.runtime.options import read_options

if TYPE_CHECKING:
    from hearth.runtime.verify.report import StepResult
    from hearth.runtime.verify.subject import Wanted


@dataclass(frozen=True)
class WantedOptions:
    """What to hold the archive against, and what to replay it with."""

    key: Annotated[
        Path | None, typer.Option(help="the public key (PEM) that must have signed it")
    ] = None
    source: Annotated[
        Path | None, typer.Option(help="compile this source again, and compare the bytes")
    ] = None
    calibration: Annotated[
        Path | None, typer.Option(help="with --source: the text that it was calibrated on")
    ] = None
    all_isas: Annotated[
        bool, typer.Option("--all-isas", help="replay with every instruction set this CPU has")
    ] = False
    isa: Annotated[
        str | None, typer.Option(help="instruction set to replay with; HEARTH_ISA, else the best")
    ] = None
    threads: Annotated[
        int | None, typer.Option(help="threads besides 1; HEARTH_THREADS, else the cores there are")
    ] = None

    def wanted(self) -> Wanted:
        """The checked form; UsageError `arguments.isa`, `arguments.threads`."""
        from hearth.runtime import native
        from hearth.runtime.binding import checked_isa, checked_threads
        from hearth.runtime.verify.subject import Wanted

        here = read_options(self.threads, self.isa)
        isas = tuple(native.isas()) if self.all_isas else (checked_isa(here.isa),)
        return Wanted(checked_threads(here.threads), isas, self.key, self.source, self.calibration)


@spread
def verify_command(
    file: Annotated[Path, typer.Argument(help="the .har file")],
    *,
    options: WantedOptions,
    as_json: JsonOption = False,
) -> None:
    """Verify an archive: structure, hashes, plan, tokenizer, golden vectors, signature."""
    from hearth.runtime.progress import choose
    from hearth.runtime.verify.report import as_object
    from hearth.runtime.verify.run import verify
    from hearth.runtime.verify.subject import Subject

    subject = Subject(file, options.wanted(), choose(json_lines=as_json))
    report = verify(subject, None if as_json else tell)
    if as_json:
        emit_json(as_object(report))
    else:
        emit(f"content {report.content_hash}\n" if report.content_hash else "")
    for failure in report.failures:
        raise failure


def tell(step: StepResult) -> None:
    """One line as soon as a step is done."""
    took = f"  {duration(step.seconds)}" if step.seconds >= 0.1 else ""
    emit(f"{step.name:13}  {step.outcome:7}  {step.detail}{took}\n")
