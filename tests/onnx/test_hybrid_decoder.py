"""A decoder of convolutions and attention (LFM2), which no rule raises: it runs as a graph, its states fed by hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from support.compiling import wanted
from support.data import real
from support.onnx_graphs import compiled, engine

from hearth.runtime.graphs.model import GraphModel
from hearth.schemas.manifest import ModelKind

Values = dict[str, NDArray[Any]]
RELATIVE = 2e-4  # of the largest value: onnxruntime fuses otherwise in a cut graph


@pytest.fixture(scope="module")
def source() -> Path:
    return real("onnx", "ort-genai-tiny", "tiny-random-lfm2-fp32", "decoder.onnx")


@pytest.fixture(scope="module")
def model(source: Path, tmp_path_factory: pytest.TempPathFactory) -> GraphModel:
    return compiled(source, tmp_path_factory.mktemp("lfm2") / "m.har")


def inputs(model: GraphModel, tokens: int, past: int, batch: int) -> Values:
    """Random ids and states for a call of so many tokens after so many others."""
    rng = np.random.default_rng(1000 * tokens + past)
    sizes = {
        "batch_size": batch, "sequence_length": tokens, "past_sequence_length": past,
        "total_sequence_length": past + tokens,
    }  # fmt: skip
    found: Values = {}
    for port in model.inputs:
        shape = [sizes[dim] if isinstance(dim, str) else dim for dim in port.shape or ()]
        if port.type == "tensor(float)":
            found[port.name] = rng.standard_normal(shape).astype(np.float32)
        else:
            found[port.name] = rng.integers(0, 1000, shape)
    found["attention_mask"] = np.ones((batch, past + tokens), np.int64)
    found["position_ids"] = np.tile(np.arange(past, past + tokens), (batch, 1))
    return found


def close(found: Mapping[str, Any], expected: Mapping[str, Any]) -> bool:
    assert found.keys() == expected.keys()
    return all(
        found[name].shape == value.shape
        and np.abs(found[name] - value).max() <= RELATIVE * np.abs(value).max()
        for name, value in expected.items()
    )


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("past", [0, 1, 7, 60])
@pytest.mark.parametrize("tokens", [1, 2, 5, 33])
def test_gives_what_onnxruntime_gives(
    model: GraphModel, source: Path, tokens: int, past: int, batch: int
) -> None:
    given = inputs(model, tokens, past, batch)
    alone = engine(onnx.load(source))
    expected = alone.run({name: given[name] for name in alone.inputs})
    assert close(model.run(given), expected)


def test_one_call_and_many_agree(model: GraphModel) -> None:
    """The states that a call gives are what the next takes."""
    whole = inputs(model, 6, 0, 1)
    expected = model.run(whole)["logits"]
    given = inputs(model, 1, 0, 1)
    states = {name: value for name, value in whole.items() if name.startswith("past")}
    for at in range(6):
        given |= states | {
            "input_ids": whole["input_ids"][:, at : at + 1],
            "position_ids": np.array([[at]]),
            "attention_mask": np.ones((1, at + 1), np.int64),
        }
        found = model.run(given)
        states = {
            name.replace("present_conv", "past_conv").replace("present", "past_key_values", 1)
            if "conv" not in name
            else name.replace("present_conv", "past_conv"): value
            for name, value in found.items()
            if name.startswith("present")
        }
        assert close({"l": found["logits"][:, 0]}, {"l": expected[:, at]})


def test_is_one_segment_with_reasons(model: GraphModel) -> None:
    assert model.manifest.kind is ModelKind.GRAPH
    assert [step.run for step in model.plan.steps] == ["onnx/0"]
    assert model.plan.reasons
    assert all(each.reason for each in model.plan.operators)


def test_quantised_weights_become_islands_only_where_they_pay(source: Path, tmp_path: Path) -> None:
    small = compiled(source, tmp_path / "m.har", wanted(weights="int8"))
    assert [step.run for step in small.plan.steps] == ["onnx/0"]
