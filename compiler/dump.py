"""`--dump DIR`: after every step one text file and, before lowering, one ONNX file per entry."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path

from hearth.compiler.ir import text
from hearth.compiler.ir.ops import Constant, Graph
from hearth.compiler.ir.rewrite import all_outputs, order
from hearth.compiler.lower import Lowered
from hearth.schemas.errors import ResourceError
from hearth.schemas.program import Command, Operand, Region

# A graph whose constants are larger is written as text alone: ONNX would repeat all weights at every step.
ONNX_LIMIT_NBYTES = 64 << 20


class Dump:
    """Numbers its files in the order of the steps; does nothing without a folder."""

    def __init__(self, folder: Path | None) -> None:
        self.folder, self.count = folder, 0

    def graph(self, step: str, graph: Graph) -> None:
        """The graph as it is after a step."""
        if self.folder is None:
            return
        stem = self._stem(step)
        self._write(f"{stem}.txt", text.dump(graph).encode())
        if constants_nbytes(graph) <= ONNX_LIMIT_NBYTES:
            from hearth.compiler.ir.to_onnx import to_onnx

            for entry in graph.entries:
                model = to_onnx(graph, entry)
                self._write(f"{stem}.{entry}.onnx", model.SerializeToString(deterministic=True))

    def program(self, step: str, lowered: Lowered) -> None:
        """The program: one line per command."""
        if self.folder is not None:
            body = "\n".join(program_lines(lowered)) + "\n"
            self._write(f"{self._stem(step)}.txt", body.encode())

    def _stem(self, step: str) -> str:
        self.count += 1
        return f"{self.count:02d}-{step}"

    def _write(self, name: str, data: bytes) -> None:
        if self.folder is None:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_bytes(data)
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
