"""What a model asks of an engine: versions that are known, and operators that onnxruntime has."""

from __future__ import annotations

from functools import cache

import onnx
from onnxruntime.capi import onnxruntime_pybind11_state as engine

from hearth.compiler.frontend.onnx.functions import walk
from hearth.schemas.errors import CheckpointError


def check_versions(model: onnx.ModelProto, where: str) -> None:
    """IR version and the standard's opset are ones this package of onnx knows."""
    if not 1 <= model.ir_version <= onnx.IR_VERSION:
        raise CheckpointError(
            "onnx.ir_version",
            f"IR version {model.ir_version}",
            expected=f"1 to {onnx.IR_VERSION}",
            where=where,
            remedy="update onnx and onnxruntime, or export for an older version",
        )
    seen: set[str] = set()
    newest = onnx.defs.onnx_opset_version()
    for opset in model.opset_import:
        domain = standard_domain(opset.domain)
        wrong = opset.version < 1 or (not domain and opset.version > newest)
        if wrong or domain in seen:
            raise CheckpointError(
                "onnx.opset",
                f"opset {opset.version} of {domain or 'the standard'!r}"
                + (", twice" * (domain in seen)),
                expected=f"each domain once, the standard with 1 to {newest}",
                where=where,
                remedy="update onnx and onnxruntime, or export for an older opset",
            )
        seen.add(domain)


def check_operators(model: onnx.ModelProto, where: str) -> None:
    """Operators that onnxruntime lacks are named, all of them in one message."""
    used = {(standard_domain(node.domain), node.op_type) for node in walk(model.graph.node)}
    own = {(standard_domain(each.domain), each.name) for each in model.functions}
    unknown = sorted(used - own - known_operators())
    if unknown:
        names = ", ".join(f"{op} of {domain or 'the standard'!r}" for domain, op in unknown[:20])
        more = f" and {len(unknown) - 20} more" if len(unknown) > 20 else ""
        raise CheckpointError(
            "onnx.custom_operator",
            f"operators that onnxruntime does not have: {names}{more}"[:2000],
            expected="operators of the standard, of ai.onnx.ml and of com.microsoft",
            where=where,
            remedy="export without them, or write them as model-local functions",
        )


@cache
def known_operators() -> frozenset[tuple[str, str]]:
    """(domain, operator) of everything onnxruntime has a schema for."""
    return frozenset((each.domain, each.name) for each in engine.get_all_operator_schema())


def standard_domain(domain: str) -> str:
    """The standard's domain has two names."""
    return "" if domain == "ai.onnx" else domain
