"""Targets: which layout each weight dtype takes and how a prompt is cut; frozen values, known by name.

The x86 targets share one layout family (docs/layouts.md), so their archives hold the same weights and differ
only in the target recorded: the runtime takes the fastest kernels its CPU has for the layouts it finds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hearth.schemas.commands import Layout
from hearth.schemas.dtypes import DType
from hearth.schemas.errors import UsageError

BLOCKS_OF_16: Mapping[DType, Layout] = {
    DType.F32: Layout.F32B16,
    DType.BF16: Layout.F32B16,
    DType.F16: Layout.F16B16,
    DType.W8: Layout.Q8B16,
    DType.W4: Layout.Q4B16,
    DType.T2: Layout.T2B16,
    DType.T3: Layout.T3B16,
    DType.T4: Layout.T4B16,
    DType.T5: Layout.T5B16,
    DType.T6: Layout.T6B16,
    DType.G8: Layout.G8B16,
    DType.G4: Layout.G4B16,
}


@dataclass(frozen=True)
class Target:
    """What code for a family of CPUs wants: layouts by dtype, tokens per prefill call, the ISA it is meant for.

    Each call reads all weights from memory once. VNNI and AVX2 multiply 128 rows in several times the time that
    takes. AMX does so in about the same time: only with 256 rows does the multiplying hide the reading, and more
    would leave the caches (docs/kernels.md).
    """

    name: str
    isa: str
    layouts: Mapping[DType, Layout]
    chunk: int


TARGETS: Mapping[str, Target] = {
    target.name: target
    for target in (
        Target("x86-64-v3", "avx2", BLOCKS_OF_16, 128),
        Target("x86-64-avx512vnni", "avx512vnni", BLOCKS_OF_16, 128),
        Target("x86-64-amx", "amx", BLOCKS_OF_16, 256),
    )
}
NATIVE = "native"
PLANNED = ("armv8.2-dotprod", "armv8.6-i8mm")


def find_target(name: str, native: str = "x86-64-avx512vnni") -> Target:
    """The target of that name; `native` says what "native" means on this machine."""
    wanted = native if name == NATIVE else name
    if wanted in TARGETS:
        return TARGETS[wanted]
    known = ", ".join((*TARGETS, NATIVE))
    if wanted in PLANNED:
        raise UsageError(
            "target.planned",
            f"target '{wanted}' has no packed layouts yet",
            expected=f"one of {known}",
            where="--target",
        )
    raise UsageError(
        "target.unknown", f"target '{wanted}'", expected=f"one of {known}", where="--target"
    )


def native_target(isas: tuple[str, ...]) -> str:
    """The name of the best target for the ISAs a CPU has."""
    fitting = [target.name for target in TARGETS.values() if target.isa in isas]
    return fitting[-1] if fitting else "x86-64-v3"
