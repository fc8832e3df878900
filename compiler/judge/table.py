"""The table that bits are allocated over: for each weight of a decoder the bytes and the losses of its candidates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hearth.compiler.check.blocks import Ids
from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.tensors import F32
from hearth.compiler.judge.allocate import Allocation, Choice, Front, Tensor
from hearth.compiler.judge.noise import every_row
from hearth.compiler.judge.sensitivity import codable, sensitivities
from hearth.compiler.lower.layouts import LAYOUTS
from hearth.compiler.lower.targets import Target
from hearth.compiler.quantize.schemes import (
    F16,
    INT4_G32,
    INT4_G64,
    INT4_G128,
    INT8,
    LEARNED,
    LINEAR,
    NF4,
    Form,
    Scheme,
    WeightScheme,
)
from hearth.runtime.archive import Archive
from hearth.schemas.commands import Layout
from hearth.schemas.dtypes import DType
from hearth.schemas.weights_index import TensorEntry

CANDIDATES = (INT8, INT4_G32, INT4_G64, INT4_G128, *LINEAR, *NF4, *LEARNED, F16)
REFERENCE = INT4_G32
FLOAT_TYPES = {16: DType.F16, 32: DType.F32}
INTEGER_TYPES = {4: DType.W4, 8: DType.W8}
TABLE_TYPES = {2: DType.T2, 3: DType.T3, 4: DType.T4, 5: DType.T5, 6: DType.T6}
TYPES = {Form.FLOAT: FLOAT_TYPES, Form.INTEGER: INTEGER_TYPES, Form.TABLE: TABLE_TYPES}


@dataclass(frozen=True, eq=False)
class Table:
    """The front of all allocations; values of each weight; bytes of what is not allocated (norms, biases), and the
    model's parameters."""

    front: Front
    schemes: Mapping[str, WeightScheme]  # by the name that choices have
    sizes: Mapping[str, int]
    fixed_nbytes: int
    parameters: int

    def budget(self, max_bits: float | None) -> float:
        """Bytes for the allocated weights where the whole has that many bits per weight."""
        if max_bits is None:
            return float("inf")
        return max_bits * self.parameters / 8 - self.fixed_nbytes

    def overrides(self, allocation: Allocation) -> tuple[tuple[str, WeightScheme], ...]:
        """As a scheme has them: each weight by its name."""
        pairs = zip(allocation.tensors, allocation.chosen, strict=True)
        return tuple((tensor.name, self.schemes[choice.scheme]) for tensor, choice in pairs)


def make_table(
    graph: Graph,
    floats: Archive,
    scheme: Scheme,
    target: Target,
    calls: Sequence[Ids],
    code: Callable[[F32, WeightScheme], F32],
    *,
    candidates: Sequence[WeightScheme],
    threads: int = 0,
    advance: Callable[[int], None] = lambda _: None,
) -> Table:
    """Of a float decoder and the archive made of it without coding; weights that `scheme` names keep its schemes."""
    entries = {entry.name: entry for entry in floats.weights_index.tensors}
    own = {name: scheme.override(name) for name in codable(every_row(graph)) if name in entries}
    wanted = {name: candidates if given is None else (given,) for name, given in own.items()}
    measured = sensitivities(
        graph, calls, wanted, REFERENCE, code, threads=threads, advance=advance
    )
    tensors = [
        Tensor(
            each.name,
            tuple(
                Choice(form.written, nbytes(entries[each.name], form, target), loss)
                for form, loss in each.loss.items()
            ),
        )
        for each in measured
    ]
    fixed = [entry for entry in entries.values() if entry.parameters and entry.name not in own]
    return Table(
        Front(tensors),
        {form.written: form for each in measured for form in each.loss},
        {name: entries[name].parameters for name in own},
        sum(entry.nbytes for entry in fixed),
        sum(entry.parameters for entry in entries.values()),
    )


def nbytes(entry: TensorEntry, scheme: WeightScheme, target: Target) -> int:
    """Packed bytes of a tensor under another scheme."""
    n, k = entry.shape
    return LAYOUTS[layout(scheme, target)].nbytes(n, k, scheme.group, entry.paired)


def layout(scheme: WeightScheme, target: Target) -> Layout:
    """Where the target puts weights of a scheme."""
    return target.layouts[TYPES[scheme.form][scheme.bits]]
