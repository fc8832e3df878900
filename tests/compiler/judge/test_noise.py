"""Signal-to-noise ratios against plain numpy, in blocks of any size, and the verb on a real archive."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import MODELS, Archives
from support.command_line import hearth
from support.graphs import Tiny, decoder

from hearth.compiler.check import blocks
from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.tensors import ArraySource, read
from hearth.compiler.judge.noise import TensorNoise, every_row, linears, noise
from hearth.compiler.judge.picture import chart
from hearth.compiler.judge.stored import with_weights
from hearth.compiler.passes import FLOAT_PASSES, run_passes
from hearth.compiler.quantize import make_scheme, quantize, weight_scheme
from hearth.schemas.commands import KVScheme

CALLS = [{"tokens": np.array(ids, np.int32)} for ids in ([1, 4, 1, 5, 9], [2, 7, 1, 8, 2, 8, 1])]
Measured = dict[str, TensorNoise]


def floats(**shape: object) -> Graph:
    return run_passes(FLOAT_PASSES, decoder(replace(Tiny(), **shape)))  # type: ignore[arg-type]


def measured(graph: Graph, coded: Graph) -> Measured:
    found = noise(graph, coded, CALLS, lambda name: ("form", 8.0), threads=1)
    return {each.name: each for each in found}


def spoilt(graph: Graph, name: str) -> tuple[Graph, np.ndarray]:
    """The graph with noise on one weight, and that noise."""
    weight = linears(every_row(graph))[name].weight
    rows = read(weight.value)  # type: ignore[attr-defined]
    error = np.random.default_rng(5).normal(0, 0.01, rows.shape).astype(np.float32)
    return with_weights(graph, {name: ArraySource(rows + error)}), error


def test_a_graph_beside_itself_has_no_noise() -> None:
    graph = floats()
    assert all(each.alone is each.together is None for each in measured(graph, graph).values())


@pytest.mark.parametrize("limit", [1 << 30, 6_000])
def test_one_noisy_weight_is_measured_at_its_place_and_felt_behind_it(
    limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "LIMIT_NBYTES", limit)
    graph = floats()
    names = list(linears(every_row(graph)))
    place = 3
    coded, error = spoilt(graph, names[place])
    found = measured(graph, coded)
    assert list(found) == names
    assert [name for name in names if found[name].alone is not None] == [names[place]]
    assert [name for name in names if found[name].together is not None] == names[place:]

    lone, x = every_row(graph), []
    op = linears(lone)[names[place]]
    for held in blocks.walk(lone, "noise", CALLS, watch=[op.x]):
        x += [values[op.x] for values in held if op.x in values and len(x) < len(CALLS)]
    rows, weight = np.concatenate(x), read(op.weight.value)  # type: ignore[attr-defined]
    wanted = np.square(rows @ weight.T).sum() / np.square(rows @ error.T).sum()
    assert found[names[place]].alone == pytest.approx(10 * np.log10(wanted), abs=1e-3)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = floats(tied=False)
    coded = quantize(graph, make_scheme(weight_scheme("int8"), "dynamic", KVScheme.INT8))
    whole = measured(graph, coded)
    monkeypatch.setattr(blocks, "LIMIT_NBYTES", 4_000)
    pieces = measured(graph, coded)
    assert list(pieces) == list(whole)
    assert next(iter(whole)) == "model.embed_tokens.weight"
    for name, each in whole.items():
        assert pieces[name].alone == pytest.approx(each.alone, abs=0.01)
        assert pieces[name].together == pytest.approx(each.together, abs=0.5)


def test_a_chart_is_svg_and_leaves_out_what_is_not_known() -> None:
    text = chart("a < b", "dB", ["x", "y", "z"], {"one": [1.0, None, 3.5], "two": [None] * 3})
    root = ElementTree.fromstring(text)
    lines = [each for each in root.iter() if each.tag.endswith("polyline")]
    assert [len((line.get("points") or "").split()) for line in lines] == [2, 0]
    assert "a < b (dB)" in [each.text for each in root.iter()]


def test_the_verb_on_an_archive(
    archives: Archives, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text").write_text("Once upon a time there was a fox. " * 40)
    file = archives("hearthside", weights="int4", context=128)
    source, svg = archives.checkpoint("hearthside"), tmp_path / "noise.svg"
    command = ("noise", file, "--source", source, "--text", tmp_path / "text", "--context", 64)
    assert hearth(*command, "--svg", svg, "--json") == 0
    found = json.loads(capsys.readouterr().out)["tensors"]
    assert {each["form"] for each in found} == {"q4b16 g32", "q8b16"}
    assert all(10 < each["alone"] < 60 for each in found)
    assert all(each["together"] < each["alone"] + 1 for each in found)
    ElementTree.fromstring(svg.read_text())
    assert hearth(*command) == 0
    assert "most noise of its own" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (("--windows", 0), "arguments.noise"),
        (("--context", 1), "arguments.noise"),
        (("--context", 4096), "arguments.noise"),
        (("--text", "absent"), "resource.unreadable"),
        (("--text", "binary"), "input.text"),
        (("--source", "tiny"), "input.not_source"),
        (("--svg", "absent/x.svg"), "resource.output"),
    ],
)
def test_refusals(
    archives: Archives,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[object, ...],
    code: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("here").write_text("Once upon a time there was a fox. " * 100)
    Path("binary").write_bytes(b"abc\xff\xfe")
    Path("tiny").symlink_to(archives.checkpoint("tiny"))
    file = archives("hearthside", weights="int4", context=128)
    given = {"--source": MODELS / "hearthside", "--text": "here", "--context": 16}
    given |= dict(zip(options[::2], options[1::2], strict=True))  # type: ignore[arg-type]
    flat = [word for pair in given.items() for word in pair]
    assert hearth("noise", file, *flat, "--json") != 0
    assert json.loads(capsys.readouterr().err.splitlines()[-1])["code"] == code
