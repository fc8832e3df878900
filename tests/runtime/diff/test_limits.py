"""Limits: what is stated may differ, and nothing else."""

from __future__ import annotations

import pytest

from hearth.runtime.diff.findings import (
    ArchiveDiff,
    Change,
    PartChange,
    SectionDiff,
    Side,
    State,
    TensorDiff,
    ValueChange,
)
from hearth.runtime.diff.limits import Limits, beyond, tensor_within

SIDE = Side("m.har", 2, "00", 1)
CODES = PartChange("codes", 5, 1000, 1.0, 1.0)
SCALES = PartChange("scales", 1, 10, 0.01, 0.02)
VALUES = PartChange("values", 3, 10, 0.5, 0.9)


def tensor(*parts: PartChange, rms: float = 0.01, **fields: object) -> TensorDiff:
    values = ValueChange(0.1, rms, rms)
    return TensorDiff("w", State.CHANGED, parts=parts, values=values, **fields)  # type: ignore[arg-type]


CASES = {
    "no_limit": (tensor(CODES), Limits(), False),
    "codes_within": (tensor(CODES), Limits(codes=0.005), True),
    "codes_beyond": (tensor(CODES), Limits(codes=0.004), False),
    "scales_not_stated": (tensor(CODES, SCALES), Limits(codes=0.005), False),
    "both_stated": (tensor(CODES, SCALES), Limits(codes=0.005, scale=0.02), True),
    "scale_beyond": (tensor(SCALES), Limits(scale=0.019), False),
    "rms_covers_all": (tensor(CODES, SCALES), Limits(rms=0.01), True),
    "rms_beyond": (tensor(CODES), Limits(codes=1, rms=0.009), False),
    "rms_and_codes_beyond": (tensor(CODES), Limits(codes=0.001, rms=1), False),
    "floats_by_rms": (tensor(VALUES), Limits(rms=0.01), True),
    "floats_by_nothing_else": (tensor(VALUES), Limits(codes=1, scale=9), False),
    "another_form": (tensor(CODES, form=(Change("layout", 1, 2),)), Limits(rms=9), False),
    "not_comparable": (TensorDiff("w", State.CHANGED), Limits(rms=9, codes=1), False),
    "only_one_has_it": (TensorDiff("w", State.ADDED), Limits(rms=9), False),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_tensor_is_within(name: str) -> None:
    found, limits, expected = CASES[name]
    assert tensor_within(found, limits) is expected


def section(name: str, kind: str, state: State = State.CHANGED, **fields: object) -> SectionDiff:
    return SectionDiff(name, kind, state, (1, 1), ("a", "b"), **fields)  # type: ignore[arg-type]


MANIFEST = section("manifest", "manifest", changes=(Change("fingerprint", "a", "b"),))
GOLDEN = section("golden", "golden", changes=(Change("tokens[0].logits", "a", "b"),))
WEIGHTS = section("weights/t", "weights", tensors=(tensor(CODES),))
PROVENANCE = section("provenance", "provenance")
TEMPLATE = section("chat_template", "text", lines=("+x",))


@pytest.mark.parametrize(
    ("sections", "limits", "expected"),
    [
        ((), Limits(), ()),
        ((section("manifest", "manifest", State.EQUAL),), Limits(), ()),
        ((PROVENANCE,), Limits(), ()),
        ((MANIFEST, WEIGHTS, GOLDEN), Limits(), ("manifest", "weights/t", "golden")),
        ((MANIFEST, WEIGHTS, GOLDEN), Limits(rms=1), ()),
        ((MANIFEST, WEIGHTS, GOLDEN), Limits(rms=0.001), ("weights/t w",)),
        ((TEMPLATE, WEIGHTS), Limits(rms=1), ("chat_template",)),
        ((TEMPLATE,), Limits(ignored=("chat_template",)), ()),
        ((MANIFEST,), Limits(ignored=("manifest.fingerprint",)), ()),
        ((MANIFEST,), Limits(ignored=("manifest.finger",)), ("manifest",)),
        ((GOLDEN,), Limits(ignored=("golden.tokens",)), ()),
        ((section("program", "program", State.SAME),), Limits(rms=1), ("program",)),
        ((section("x", "new", State.ADDED),), Limits(), ("x",)),
    ],
)
def test_sections(
    sections: tuple[SectionDiff, ...], limits: Limits, expected: tuple[str, ...]
) -> None:
    assert beyond(ArchiveDiff(SIDE, SIDE, sections), limits) == expected
