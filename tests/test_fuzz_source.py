"""Checkpoints changed at random compile or are refused by the family of user errors, and leave nothing behind."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.command_line import hearth
from support.desk import Desk, make_desk

ODD = (
    None, True, False, 0, 1, -1, 2, 3, 64, 10**6, 2**31, 2**63, 10**30, 0.5, 1e-300, 1e300, float("inf"),
    float("nan"), "", "x", "linear", "yarn", "llama3", "silu", "llama", "mistral", [], [1], ["x"], {},
    {"a": 1}, {"rope_type": "linear", "factor": 2.0}, "\ud800",
)  # fmt: skip
ROPE = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
MORE = {
    "config.json": {"rope_scaling": ROPE, "layer_types": ["full_attention"], "head_dim": 8},
    "tokenizer_config.json": {
        "bos_token": "w1",
        "eos_token": {"content": "w2"},
        "chat_template": "{{ messages[0]['content'] }}",
        "added_tokens_decoder": {"1": {"content": "w1", "special": True}},
    },
    "generation_config.json": {"eos_token_id": [2, 3], "temperature": 0.7, "top_k": 5},
}
ANY_EXIT_CODE_BUT_A_BUG = (0, 2, 3, 6)
changed = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A checkpoint with every file a checkpoint may have."""
    desk = make_desk(tmp_path_factory.mktemp("desk"))
    for name, values in MORE.items():
        path = desk.source / name
        held = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(held | values))
    assert hearth(*desk.compile()) == 0
    return desk


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value inside."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in inner:
        yield (*path, key)
        if isinstance(item, dict | list):
            yield from places(item, (*path, key))


def change(text: bytes, source: st.DataObject) -> bytes:
    """One value of a JSON text replaced or removed."""
    values = json.loads(text)
    path = source.draw(st.sampled_from(list(places(values))))
    holder = values
    for key in path[:-1]:
        holder = holder[key]
    if source.draw(st.booleans()):
        holder[path[-1]] = source.draw(st.sampled_from(ODD))
    else:
        del holder[path[-1]]
    return json.dumps(values).encode()


def compile_changed(desk: Desk, name: str, content: bytes) -> None:
    path, output = desk.source / name, desk.folder / "out.har"
    held = path.read_bytes()
    before = sorted(os.listdir(desk.folder))
    try:
        path.write_bytes(content)
        output.unlink()
        exit_code = hearth(*desk.compile())
        assert exit_code in ANY_EXIT_CODE_BUT_A_BUG
        assert output.exists() == (exit_code == 0)
        if exit_code == 0:
            assert hearth("run", output, "1 2", "--ids", "--max-tokens", 2) in (0, 5)  # overflow
    finally:
        path.write_bytes(held)
        output.touch()
    assert sorted(os.listdir(desk.folder)) == before


@pytest.mark.parametrize("name", [*MORE, "tokenizer.json"])
@changed
@given(source=st.data())
def test_a_value_changed_anywhere(desk: Desk, name: str, source: st.DataObject) -> None:
    compile_changed(desk, name, change((desk.source / name).read_bytes(), source))


@changed
@given(source=st.data())
def test_a_tensor_described_otherwise(desk: Desk, source: st.DataObject) -> None:
    data = (desk.source / "model.safetensors").read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = change(data[8:end], source)
    content = struct.pack("<Q", len(header)) + header + data[end:]
    compile_changed(desk, "model.safetensors", content)


@changed
@given(name=st.sampled_from([*MORE, "model.safetensors"]), source=st.data())
def test_bytes_changed_anywhere(desk: Desk, name: str, source: st.DataObject) -> None:
    data = bytearray((desk.source / name).read_bytes())
    for _ in range(source.draw(st.integers(1, 3))):
        place = source.draw(st.integers(0, min(len(data), 3000) - 1))
        data[place] = source.draw(st.integers(0, 255))
    kept = source.draw(st.sampled_from([len(data), len(data) // 2, 7, 0]))
    compile_changed(desk, name, bytes(data[:kept]))
