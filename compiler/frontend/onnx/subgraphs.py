"""Runs a few nodes of a model in onnxruntime, half precision as float32, within bounds of size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from hearth.compiler.frontend.onnx.bounded import bounded_memory, bounded_time
from hearth.compiler.frontend.onnx.model import Node, OnnxModel
from hearth.compiler.frontend.onnx.sessions import reads
from hearth.compiler.frontend.onnx.values import Mismatch
from hearth.runtime.graphs.onnx_engine import Guard, bound_memory

Array = NDArray[Any]

HALVES = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
MOST_BYTES = 1 << 28  # of the initializers of one run
MOST_RUNS = 20_000
UNBOUNDED = frozenset({"Loop", "Scan", "If", "SequenceMap"})  # may take any time


def promoted(array: Array) -> Array:
    """Half precision as float32; other types as they are."""
    if helper.np_dtype_to_tensor_dtype(array.dtype) in HALVES:
        return np.asarray(array, np.float32)
    return array


def _promoted_node(node: onnx.NodeProto) -> onnx.NodeProto:
    """The node with every half type of its attributes made float32."""
    result = onnx.NodeProto()
    result.CopyFrom(node)
    for attribute in result.attribute:
        if attribute.name in ("to", "dtype", "stash_type") and attribute.i in HALVES:
            attribute.i = TensorProto.FLOAT
        if attribute.HasField("t") and attribute.t.data_type in HALVES:
            values = promoted(numpy_helper.to_array(attribute.t))
            attribute.t.CopyFrom(numpy_helper.from_array(values, attribute.t.name))
    return result


@dataclass(eq=False)
class Runner:
    """Runs parts of one model."""

    model: OnnxModel
    _protos: dict[str, onnx.NodeProto] = field(default_factory=dict)
    _left: int = MOST_RUNS

    def __post_init__(self) -> None:
        for node in self.model.proto.graph.node:
            self._protos.update((name, node) for name in node.output if name)

    def initializer(self, name: str) -> Array:
        """All of a stored tensor, if it is of a bounded size."""
        found = self.model.initializers[name]
        if found.nbytes > MOST_BYTES:
            raise Mismatch(f"{name!r} has {found.nbytes} bytes, too many for a probe")
        return promoted(found.array())

    def run(
        self, nodes: Sequence[Node], fed: Sequence[Mapping[str, Array]], names: Sequence[str]
    ) -> list[list[Array]]:
        """The named values for each set of inputs (all sets have the same names)."""
        if not nodes:
            return [[each[name] for name in names] for each in fed]
        self._left -= 1
        if self._left < 0:
            raise Mismatch("the graph takes too many probes")
        constants = self._constants(nodes, fed[0])
        session = self._session(nodes, constants, fed[0], names)
        try:
            with bounded_memory(), bounded_time() as options:
                return [session.run(list(names), dict(each), options) for each in fed]
        except Exception as error:  # onnxruntime raises classes of its own for each status
            raise Mismatch(f"onnxruntime cannot run it: {_first_line(error)}") from None

    def _constants(self, nodes: Sequence[Node], fed: Mapping[str, Array]) -> dict[str, Array]:
        for node in nodes:
            if not node.domain and node.op_type in UNBOUNDED:
                raise Mismatch(f"{node.title} cannot be probed")
        stored = self.model.initializers
        names = dict.fromkeys(name for node in nodes for name in reads(node))
        needed = [name for name in names if name in stored and name not in fed]
        if sum(stored[name].nbytes for name in needed) > MOST_BYTES:
            raise Mismatch("it reads too large constants to be probed")
        return {name: self.initializer(name) for name in needed}

    def _session(
        self,
        nodes: Sequence[Node],
        constants: Mapping[str, Array],
        fed: Mapping[str, Array],
        names: Sequence[str],
    ) -> onnxruntime.InferenceSession:
        protos = {id(proto): proto for node in nodes for proto in (self._proto(node),)}
        inputs = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), None)
            for name, array in fed.items()
        ]
        graph = helper.make_graph(
            [_promoted_node(proto) for proto in protos.values()],
            "probe",
            inputs,
            [onnx.ValueInfoProto(name=name) for name in names],
            [numpy_helper.from_array(array, name) for name, array in constants.items()],
        )
        opsets = [helper.make_opsetid(*item) for item in self.model.opsets.items()]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        try:
            return onnxruntime.InferenceSession(
                model.SerializeToString(), _options(), providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise Mismatch(f"onnxruntime cannot load it: {_first_line(error)}") from None

    def _proto(self, node: Node) -> onnx.NodeProto:
        return self._protos[next(name for name in node.outputs if name)]


def _options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    bound_memory(options, Guard())
    return options


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200]
