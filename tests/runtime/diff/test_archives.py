"""Two archives: each difference is named, in its section, and nothing else is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from support.checkpoint import write_checkpoint
from support.compiling import wanted
from support.rewriting import rewrite

from hearth.compiler.pipeline import compile_model
from hearth.runtime.archive import open_archive
from hearth.runtime.diff.archives import diff
from hearth.runtime.diff.findings import ArchiveDiff, SectionDiff, State
from hearth.runtime.diff.text import as_text
from hearth.schemas.codec import dumps, loads
from hearth.schemas.manifest import Manifest

GATE = "model.layers.1.mlp.gate_proj.weight"
PACKED = "model.layers.1.mlp.gate_proj+up_proj.weight"
WEIGHTS = "weights/x86-64-v3"
V1 = Path(__file__).parent.parent.parent / "archives"
HEARTHSIDE = Path(__file__).parent.parent.parent.parent / "models/hearthside"


def section(found: ArchiveDiff, name: str) -> SectionDiff:
    return next(each for each in found.sections if each.name == name)


def changed(found: ArchiveDiff) -> dict[str, State]:
    return {each.name: each.state for each in found.sections if each.state is not State.EQUAL}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("diff") / "tiny")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("demo") / "a.har"
    compile_model(HEARTHSIDE, output, wanted(weights="int4"))
    return output


def test_an_archive_equals_itself(demo: Path) -> None:
    found = diff(demo, demo)
    assert found.equal
    assert found.a == found.b
    assert "the archives are equal" in as_text(found, ())


@pytest.mark.parametrize("weights", ["f32", "f16", "int8", "int4"])
def test_one_weight_of_the_source_is_named(tiny: Path, tmp_path: Path, weights: str) -> None:
    other = tmp_path / "tiny"  # the name is recorded
    shutil.copytree(tiny, other)
    held = load_file(other / "model.safetensors")
    held[GATE] = held[GATE].copy()
    held[GATE][3, 5] += np.float16(4)
    save_file(held, other / "model.safetensors")
    for source, name in ((tiny, "a"), (other, "b")):
        compile_model(source, tmp_path / f"{name}.har", wanted(weights=weights))
    found = diff(tmp_path / "a.har", tmp_path / "b.har")
    assert set(changed(found)) == {"manifest", WEIGHTS, "golden", "provenance"}
    assert [each.path for each in section(found, "manifest").changes] == ["fingerprint"]
    facts = [each.path for each in section(found, "provenance").changes]
    assert "fingerprint" in facts
    assert not any(path.startswith("sections.") for path in facts), "they are compared themselves"
    (tensor,) = section(found, WEIGHTS).tensors
    assert tensor.name == PACKED
    assert tensor.values is not None
    gain = held["model.layers.1.post_attention_layernorm.weight"][5]  # folded into the weight
    step = 4 * float(gain)
    assert abs(tensor.values.largest - step) <= step / 7  # a step of int4 at the most
    kind = "codes" if weights.startswith("int") else "values"
    counted = next(part for part in tensor.parts if part.name == kind)
    assert 1 <= counted.changed <= 40  # the row at most
    assert PACKED in as_text(found, ("x",))


EDITS: dict[str, tuple[str, Callable[[bytes], bytes], str, str]] = {
    "manifest": (
        "manifest",
        lambda data: dumps(replace(loads(Manifest, data, ""), family="mistral")),
        "family",
        "family: llama -> mistral",
    ),
    "chat template": (
        "chat_template", lambda data: data + b"\nplease", "", "+please",
    ),
    "generation defaults": (
        "generation_config",
        lambda data: json.dumps(json.loads(data) | {"top_k": 7}).encode(),
        "top_k",
        "top_k: only in B: 7",
    ),
    "provenance": (
        "provenance",
        lambda data: json.dumps(json.loads(data) | {"hearth": "9.9"}).encode(),
        "hearth",
        "hearth: 0.1.0 -> 9.9",
    ),
    "tokenizer": (
        "tokenizer",
        lambda data: data.replace(b'"normalizer": null', b'"normalizer": {"type": "NFC"}')
        .replace(b'"normalizer":null', b'"normalizer":{"type":"NFC"}'),
        "normalizer",
        "normalizer",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EDITS)
def test_a_changed_section_says_where(name: str, demo: Path, tmp_path: Path) -> None:
    target, edit, path, text = EDITS[name]
    found = diff(demo, rewrite(demo, tmp_path / "b.har", {target: edit}))
    assert list(changed(found)) == [target]
    part = section(found, target)
    assert part.state is State.CHANGED
    assert [each.path for each in part.changes] == ([path] if path else [])
    assert text in as_text(found, (target,))


def test_other_bytes_of_the_same_meaning_are_told_apart(demo: Path, tmp_path: Path) -> None:
    def spaced(data: bytes) -> bytes:
        return json.dumps(json.loads(data), indent=3).encode()

    found = diff(demo, rewrite(demo, tmp_path / "b.har", {"tokenizer": spaced}))
    assert changed(found) == {"tokenizer": State.SAME}
    assert not found.equal


def test_sections_of_one_side_only(demo: Path, tmp_path: Path) -> None:
    extra = {"notes/1": ("notes", b"what a newer version adds")}
    other = rewrite(demo, tmp_path / "b.har", drop=("chat_template",), add=extra)
    found = diff(demo, other)
    assert changed(found) == {"chat_template": State.REMOVED, "notes/1": State.ADDED}
    third = rewrite(other, tmp_path / "c.har", {"notes/1": lambda data: data[1:]})
    assert section(diff(other, third), "notes/1").note == "the bytes differ"
    text = as_text(found, ("x",))
    assert "chat_template: only in A" in text
    assert "notes/1: only in B" in text


def test_weights_of_another_target_are_compared(tiny: Path, tmp_path: Path) -> None:
    for target in ("x86-64-v3", "x86-64-amx"):
        compile_model(tiny, tmp_path / f"{target}.har", wanted(weights="int8", target=target))
    found = diff(tmp_path / "x86-64-v3.har", tmp_path / "x86-64-amx.har")
    assert section(found, WEIGHTS).state is State.EQUAL
    told = {each.path for each in section(found, "manifest").changes}
    assert told == {"targets", "chunk"}  # a target's caches say how large a chunk is


def test_older_formats_are_compared_by_what_they_mean(demo: Path, tmp_path: Path) -> None:
    first = diff(V1 / "v1-int4.har", V1 / "v1-f16.har")
    assert (first.a.version, first.b.version) == (1, 1)
    tensors = section(first, WEIGHTS).tensors
    assert {change.path for each in tensors for change in each.form} == {"layout", "group"}
    assert all(0 < each.values.relative_rms < 0.2 for each in tensors if each.values)
    again = tmp_path / "again.har"
    old = open_archive(V1 / "v1-int4.har")
    parts = {
        "manifest": replace(old.manifest, format=2),
        "program": old.program,
        "kv_layout": old.kv_layout,
    }
    edits = {name: (lambda data, value=value: dumps(value)) for name, value in parts.items()}
    rewrite(V1 / "v1-int4.har", again, edits)
    found = diff(V1 / "v1-int4.har", again)
    assert (found.a.version, found.b.version) == (1, 2)
    told = changed(found)
    assert told.pop("manifest") is State.CHANGED
    assert [each.path for each in section(found, "manifest").changes] == ["format"]
    assert set(told.values()) == {State.SAME}, as_text(found, (), whole=True)
    assert "program" in told and set(told) <= set(parts)
    mixed = diff(V1 / "v1-int4.har", demo)
    assert section(mixed, "golden").state is State.ADDED


def test_reversing_the_order_swaps_the_sides(demo: Path, tmp_path: Path) -> None:
    other = rewrite(demo, tmp_path / "b.har", drop=("chat_template",))
    there, back = diff(demo, other), diff(other, demo)
    assert (there.a, there.b) == (back.b, back.a)
    assert changed(back) == {"chat_template": State.ADDED}
