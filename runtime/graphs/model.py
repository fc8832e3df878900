"""A loaded general graph: named arrays in, named arrays out, each part in the engine that the plan says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hearth.runtime.archive import Archive
from hearth.runtime.archive.format import HEADER_NBYTES
from hearth.runtime.binding import bind, checked_isa, checked_threads
from hearth.runtime.graphs.checks import check_plan
from hearth.runtime.graphs.native_steps import bind_step
from hearth.runtime.graphs.onnx_engine import Guard, OnnxEngine, open_engine
from hearth.runtime.graphs.onnx_tensors import names_files, with_tensors
from hearth.runtime.graphs.ports import checked_inputs
from hearth.schemas.codec import loads
from hearth.schemas.errors import ArchiveError
from hearth.schemas.graph import Engine, GraphPort, Plan, Step
from hearth.schemas.manifest import Manifest
from hearth.schemas.sections import GRAPH, TENSORS

Runner = Callable[[Mapping[str, Any]], Mapping[str, Any]]
NativeRunner = Callable[[Step], Runner]


@dataclass(frozen=True, eq=False)
class GraphModel:
    """Made by `load_graph`. Several threads may call `run` at once."""

    archive: Archive
    plan: Plan
    runners: Sequence[Runner]

    @property
    def manifest(self) -> Manifest:
        """What the archive is."""
        return self.archive.manifest

    @property
    def inputs(self) -> tuple[GraphPort, ...]:
        """Name, type and shape of each input."""
        return self.plan.inputs

    @property
    def outputs(self) -> tuple[GraphPort, ...]:
        """Name, type and shape of each output."""
        return self.plan.outputs

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """All outputs by name. Arrays have their port's type; text is arrays of str, sequences are lists.

        Raises InputError: `input.port` and `input.array` for what does not fit a port, `input.onnx_failed` where
        onnxruntime cannot run the values together.
        """
        values: dict[str, Any] = checked_inputs(self.inputs, inputs)
        for step, runner in zip(self.plan.steps, self.runners, strict=True):
            values.update(runner({name: values[name] for name in step.inputs}))
        return {port.name: values[port.name] for port in self.outputs}


def open_graph(
    archive: Archive, plan: Plan, threads: int, native: NativeRunner, guard: Guard | None
) -> GraphModel:
    """The graph of an archive that is open; `native` makes the runner of a native step."""
    where = str(archive.path)
    entries = archive.manifest.entries
    check_plan(plan, archive.entries, entries, where)
    runners = [
        native(step)
        if step.engine is Engine.NATIVE
        else onnx_runner(archive, plan, step, threads, guard)
        for step in plan.steps
    ]
    return GraphModel(archive, plan, runners)


def onnx_runner(
    archive: Archive, plan: Plan, step: Step, threads: int, guard: Guard | None
) -> Runner:
    """A segment's session, its large tensors mapped from the archive's own file."""
    model = bytes(archive.section(step.run))
    if names_files(model):
        raise ArchiveError(
            "archive.graph",
            f"segment {step.run!r} wants to read a file",
            expected="tensors of the archive",
            where=str(archive.path),
            remedy="do not trust this archive",
        )
    folder = None
    if step.tensors:
        section = archive.entries[TENSORS]
        folder = archive.path.absolute().parent
        tensors = [plan.tensors[number] for number in step.tensors]
        model = with_tensors(model, tensors, archive.path.name, section.offset)
    engine = open_engine(model, folder, threads=threads, guard=guard)
    if step.tensors:
        _check_same_file(archive)
    _check_names(engine, step, str(archive.path))
    return lambda values: engine.run(
        {name: values[name] for name in step.inputs if name in engine.inputs}, step.outputs
    )


def _check_names(engine: OnnxEngine, step: Step, where: str) -> None:
    missing = [name for name in step.outputs if name not in engine.outputs]
    missing += [name for name in engine.inputs if name not in step.inputs]
    if missing:
        raise ArchiveError(
            "archive.graph",
            f"segment {step.run!r} and its step disagree about {missing[0]!r}",
            expected="the inputs and outputs of the step",
            where=where,
            remedy="compile the model again",
        )


def _check_same_file(archive: Archive) -> None:
    """onnxruntime opened the file by its name: it must still be the one that was checked, by the hash in its header."""
    mine = bytes(archive.data[:HEADER_NBYTES])
    try:
        with archive.path.open("rb") as file:
            same = file.read(HEADER_NBYTES) == mine
    except OSError:
        same = False
    if not same:
        raise ArchiveError(
            "archive.changed",
            "the file was replaced while it was loaded",
            expected="a file that stays as it is",
            where=str(archive.path),
            remedy="load it again",
        )


def graph_model_of(
    archive: Archive,
    threads: int | None = None,
    isa: str | None = None,
    guard: Guard | None = None,
) -> GraphModel:
    """The graph of an archive that is open already. Its native parts run on `isa`, all parts on `threads`.

    `guard` bounds what its ONNX parts may take, where nobody has run them yet.
    """
    plan = loads(Plan, archive.section(GRAPH), GRAPH, str(archive.path))
    threads = checked_threads(threads or None)
    program, where = archive.program, str(archive.path)
    if not program.entries:
        return open_graph(archive, plan, threads, _no_native, guard)
    engine, numbers = bind(archive, threads, checked_isa(isa))

    def native(step: Step) -> Runner:
        return bind_step(engine, numbers[step.run], program.entries[step.run], step, where)

    return open_graph(archive, plan, threads, native, guard)


def _no_native(step: Step) -> Runner:
    raise AssertionError(f"check_plan let {step.run} pass")
