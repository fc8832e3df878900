"""`--dump DIR`: after every step one text file and, before lowering, one ONNX file per entry."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path

from hearth.compiler.ir import text
from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import Constant
from hearth.compiler.ir.rewrite import all_outputs, order
from hearth.compiler.lower import Lowered
from hearth.compiler.passes import FLOAT_PASSES, QUANTISED_PASSES
from hearth.schemas.errors import ResourceError, UsageError
from hearth.schemas.program import Command, Operand, Region

GRAPH_STEPS = (
    "frontend",
    *(each.name for each in FLOAT_PASSES),
    "transform",
    "quantize",
    *(each.name for each in QUANTISED_PASSES),
)
# Above this size ONNX is written for the steps asked for by name alone: each would repeat all weights.
ONNX_LIMIT_NBYTES = 64 << 20


@dataclass(frozen=True)
class DumpOptions:
    """Where to, and the steps whose ONNX is written however large it is."""

    folder: Path | None = None
    onnx: frozenset[str] = frozenset()


class Dump:
    """Numbers its files in the order of the steps; does nothing without a folder."""

    def __init__(self, options: DumpOptions) -> None:
        self.folder, self.onnx, self.count = options.folder, options.onnx, 0
        self._check()

    def graph(self, step: str, graph: Graph) -> None:
        """The graph as it is after a step."""
        if self.folder is None:
            return
        stem = self._stem(step)
        self._write(f"{stem}.txt", text.dump(graph).encode())
        if step in self.onnx or constants_nbytes(graph) <= ONNX_LIMIT_NBYTES:
            from hearth.compiler.ir.to_onnx import save_onnx

            for entry in graph.entries:
                self._at(f"{stem}.{entry}.onnx", partial(save_onnx, graph, entry))

    def program(self, step: str, lowered: Lowered) -> None:
        """The program: one line per command."""
        if self.folder is not None:
            body = "\n".join(program_lines(lowered)) + "\n"
            self._write(f"{self._stem(step)}.txt", body.encode())

    def _stem(self, step: str) -> str:
        self.count += 1
        return f"{self.count:02d}-{step}"

    def _check(self) -> None:
        """A misspelt step is told before the work, not after it."""
        unknown = sorted(self.onnx.difference(GRAPH_STEPS))
        if unknown or (self.onnx and self.folder is None):
            raise UsageError(
                "usage.dump_onnx",
                f"--dump-onnx {unknown[0]}: no such step"
                if unknown
                else "--dump-onnx without --dump",
                expected=f"--dump DIR and one of {', '.join(GRAPH_STEPS)}",
            )

    def _write(self, name: str, data: bytes) -> None:
        self._at(name, lambda path: path.write_bytes(data))

    def _at(self, name: str, write: Callable[[Path], object]) -> None:
        if self.folder is None:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write(self.folder / name)
        except OSError as error:
            raise ResourceError(
                "resource.unwritable",
                f"cannot be written: {error.strerror}",
                where=str(self.folder / name),
                remedy="choose another --dump folder",
            ) from None


def constants_nbytes(graph: Graph) -> int:
    """Bytes of all constants as f32."""
    ops = order(all_outputs(graph))
    return sum(4 * prod(op.value.shape) for op in ops if isinstance(op, Constant))


def program_lines(lowered: Lowered) -> Iterator[str]:
    """Weights, then each entry's commands with the places of their operands."""
    program = lowered.program
    yield f"weights {program.weights_nbytes} bytes, kv {program.kv_nbytes}, io {program.io_nbytes}"
    for tensor in lowered.weights:
        layout = "f32" if tensor.layout is None else tensor.layout.name.lower()
        shape = " x ".join(str(dim) for dim in tensor.shape)
        yield f"  {tensor.offset:>12} {tensor.nbytes:>12} {layout:<7} {shape:<16} {tensor.name}"
    for name, entry in program.entries.items():
        plan = lowered.plans[name]
        yield f"{name}: arena {plan.nbytes} bytes (at least {plan.lower_bound}), {entry.max_rows}"
        yield from (f"  {index:>4} {_line(each)}" for index, each in enumerate(entry.commands))


def _line(command: Command) -> str:
    operands = " ".join(_operand(operand) for operand in command.operands)
    attributes = " ".join(str(value) for value in (*command.ints, *command.floats))
    return f"{command.op}[{command.rows}] {operands} | {attributes}"


def _operand(operand: Operand | None) -> str:
    if operand is None:
        return "-"
    value = "" if operand.region is Region.WEIGHTS else f"%{operand.value}:"
    stride = f"/{operand.stride}" if operand.stride else ""
    return f"{value}{operand.region.name.lower()}+{operand.offset}:{operand.nbytes}{stride}"
