"""Constants of the graph as those of the IR: one object per stored tensor and orientation, so that ties stay ties."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from hearth.compiler.frontend.onnx.model import Node, OnnxModel
from hearth.compiler.frontend.onnx.probes import Probes
from hearth.compiler.frontend.onnx.values import Mismatch
from hearth.compiler.frontend.onnx.weights import STORED, InitializerSource
from hearth.compiler.frontend.sources import Panel, Transposed
from hearth.compiler.ir.ops import Constant
from hearth.compiler.ir.tensors import ArraySource, GroupedSource, QuantisedSource, Source

WeightRule = Callable[[Node, bool, "Constants"], Constant]
"""(the node that makes a weight, whether it is to be transposed, self) -> a constant [N, K]; or raises Mismatch."""

LONGEST_CHAIN = 16


@dataclass(eq=False)
class Constants:
    """`weight_rules` make weights of nodes such as DequantizeLinear, by (domain, op)."""

    model: OnnxModel
    probes: Probes
    weight_rules: Mapping[tuple[str, str], WeightRule]
    panel: Panel = field(default_factory=Panel)
    scale_panel: Panel = field(default_factory=Panel)
    zero_panel: Panel = field(default_factory=Panel)
    _made: dict[tuple[str, bool], Constant] = field(default_factory=dict)
    _coded: dict[tuple[object, ...], Constant] = field(default_factory=dict)
    _names: set[str] = field(default_factory=set)

    def matrix(self, name: str, transposed: bool) -> Constant:
        """A weight or table of two axes; `transposed`: the value is [K, N], the constant [N, K]."""
        for _ in range(LONGEST_CHAIN):
            if name in self.model.initializers:
                return self._stored(name, transposed)
            node = self.model.producers.get(name)
            if node is None:
                break
            key = (node.domain, node.op_type)
            if key in self.weight_rules:
                return self.weight_rules[key](node, transposed, self)
            to_floats = key == ("", "Cast") and node.attributes.get("to") in STORED
            if key == ("", "Identity") or to_floats:
                name = node.inputs[0]
            elif key == ("", "Transpose") and node.attributes.get("perm", (1, 0)) == (1, 0):
                name, transposed = node.inputs[0], not transposed
            else:
                break
        return self._computed(name, transposed)

    def _stored(self, name: str, transposed: bool) -> Constant:
        if (name, transposed) not in self._made:
            initializer = self.model.initializers[name]
            if initializer.dtype not in STORED or len(initializer.shape) != 2:
                raise Mismatch(f"{name!r} {list(initializer.shape)} is no matrix of floats")
            source: Source = InitializerSource(initializer)
            if transposed:
                source = Transposed(source, self.panel)
            self._made[name, transposed] = self.named(name, source)
        return self._made[name, transposed]

    def _computed(self, name: str, transposed: bool) -> Constant:
        """A weight that the graph computes from others, if it is small enough to be run."""
        if (name, transposed) not in self._made:
            array = self.probes.constant(name)
            if array is None or array.ndim != 2 or array.dtype.kind != "f":
                raise Mismatch(f"{name!r} is no constant matrix")
            values = np.ascontiguousarray(array.T if transposed else array, np.float32)
            self._made[name, transposed] = self.named(name, ArraySource(values))
        return self._made[name, transposed]

    def vector(self, name: str, columns: int) -> Constant | None:
        """A bias or gain [columns]; None where the value is something else. A scalar is no vector."""
        if (name, False) not in self._made:
            array = self.probes.constant(name)
            if array is None or array.dtype.kind != "f" or array.shape[-1:] != (columns,):
                return None
            if array.size != columns:
                return None
            values = np.ascontiguousarray(array.reshape(-1), np.float32)
            self._made[name, False] = self.named(name, ArraySource(values, self._dtype(name)))
        return self._made[name, False]

    def _dtype(self, name: str) -> str:
        found = self.model.initializers.get(name)
        return STORED.get(found.dtype, "f32") if found is not None else "f32"

    def coded(
        self,
        key: tuple[object, ...],
        name: str,
        make: Callable[[], Source | QuantisedSource | GroupedSource],
    ) -> Constant:
        """A weight stored as codes, made once for each key."""
        if key not in self._coded:
            self._coded[key] = self.named(name, make())
        return self._coded[key]

    def named(self, name: str, value: Source | QuantisedSource | GroupedSource) -> Constant:
        """A constant of that name, or of one like it where it is taken."""
        unique, count = name, 1
        while unique in self._names:
            count += 1
            unique = f"{name}.{count}"
        self._names.add(unique)
        return Constant(unique, value)

    def scalar(self, name: str) -> float | None:
        """A constant of one element."""
        array = self.probes.constant(name)
        if array is None or array.size != 1 or array.dtype.kind not in "fiu":
            return None
        return float(array.reshape(-1)[0])
