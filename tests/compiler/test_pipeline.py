"""Checkpoint to archive to logits: the bits of the evaluator, whatever passes are off; the same bytes twice."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from support.checkpoint import Shape, write_checkpoint
from support.compiling import compiled_logits, evaluated_logits, wanted
from support.data import checkpoint
from support.programs import SWITCHABLE

from hearth.compiler.lower.layouts import LAYOUTS
from hearth.compiler.pipeline import compile_model
from hearth.runtime.archive import open_archive
from hearth.runtime.archive.rows import packed_rows

SCHEMES = {
    "int4_g32": {"weights": "int4"},
    "int4_g64": {"weights": "int4", "group_size": 64},
    "int4_g128_f16_cache": {"weights": "int4", "group_size": 128, "kv": "f16"},
    "int8": {"weights": "int8"},
    "int8_f32_cache": {"weights": "int8", "kv": "f32"},
    "int4_throughout": {"weights": "int4", "embeddings": "int4"},
}


def ids(vocab: int, count: int = 19) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    return np.random.default_rng(count).integers(0, vocab, count).astype(np.int32)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_an_archive_computes_what_its_graph_means(
    tiny: Path, tmp_path: Path, scheme: dict[str, object]
) -> None:
    options = wanted(**scheme)
    found = compiled_logits(tiny, tmp_path / "m.har", options, ids(97))
    assert np.array_equal(found, evaluated_logits(tiny, options, ids(97)))


@pytest.mark.parametrize("skip", [*((name,) for name in SWITCHABLE), SWITCHABLE], ids=str)
def test_with_any_pass_off_too(tiny: Path, tmp_path: Path, skip: tuple[str, ...]) -> None:
    options = wanted(skip, weights="int4")
    found = compiled_logits(tiny, tmp_path / "m.har", options, ids(97))
    assert np.array_equal(found, evaluated_logits(tiny, options, ids(97)))


@pytest.mark.parametrize("weights", ["int4", "int8"])
@pytest.mark.parametrize("name", ["stories260K", "stories3M", "stories3M-outlier"])
def test_real_checkpoints_compute_what_they_mean(name: str, weights: str, tmp_path: Path) -> None:
    source = checkpoint(name)
    options = wanted(weights=weights)
    tokens = ids(500, 40)
    found = compiled_logits(source, tmp_path / "m.har", options, tokens)
    assert np.array_equal(found, evaluated_logits(source, options, tokens))


@pytest.mark.parametrize(
    "scheme",
    [
        {"weights": "f32", "kv": "f32"},
        {"weights": "f16", "kv": "f16"},
        {"weights": "int4", "activations": "none"},
        {"weights": "int8", "activations": "none", "embeddings": "f16"},
    ],
    ids=str,
)
def test_float_arithmetic_is_close(tiny: Path, tmp_path: Path, scheme: dict[str, object]) -> None:
    """numpy has no fma in order, so the sums differ by rounding; int8 caches may round a code the other way."""
    options = wanted(**scheme)
    found = compiled_logits(tiny, tmp_path / "m.har", options, ids(97))
    expected = evaluated_logits(tiny, options, ids(97))
    coarse = 1 / 127 if scheme.get("kv", "int8") != "f32" else 1e-5
    assert np.abs(found - expected).max() <= coarse * np.abs(expected).max()


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_the_same_source_gives_the_same_bytes(tmp_path: Path, tied: bool) -> None:
    source = write_checkpoint(tmp_path / "source", Shape(tied=tied))
    digests = set()
    for name in ("a.har", "b.har"):
        compile_model(source, tmp_path / name, wanted(weights="int4"))
        digests.add(hashlib.sha256((tmp_path / name).read_bytes()).hexdigest())
    assert len(digests) == 1


def test_targets_of_one_layout_family_hold_the_same_weights(tiny: Path, tmp_path: Path) -> None:
    held = set()
    for target in ("x86-64-v3", "x86-64-amx"):
        output = tmp_path / f"{target}.har"
        compile_model(tiny, output, wanted(weights="int4", target=target))
        archive = open_archive(output)
        assert archive.manifest.targets == (target,)
        held.add(bytes(archive.weights()))
    assert len(held) == 1


def test_every_tensor_of_the_archive_unpacks_to_its_source(tiny: Path, tmp_path: Path) -> None:
    """What the index says and what the bytes are agree."""
    compile_model(tiny, tmp_path / "m.har", wanted(weights="int4"))
    archive = open_archive(tmp_path / "m.har", check="full")
    weights = np.frombuffer(archive.weights(), np.uint8)
    assert archive.weights_index.tensors
    for tensor in archive.weights_index.tensors:
        data = weights[tensor.offset : tensor.offset + tensor.nbytes]
        if tensor.layout is None:
            assert np.isfinite(data.view(np.float32)).all()
            continue
        layout = LAYOUTS[tensor.layout]
        n, k = tensor.shape
        assert layout.nbytes(n, k, tensor.group, tensor.paired) == tensor.nbytes
        assert packed_rows(data, tensor, 0, n).codes.shape == (n, k)


def test_the_report_says_what_was_made(tiny: Path, tmp_path: Path) -> None:
    output = tmp_path / "m.har"
    report = compile_model(tiny, output, wanted(weights="int4"))
    archive = open_archive(output)
    assert report.packed.archive_nbytes == output.stat().st_size
    assert report.packed.weights_nbytes == archive.program.weights_nbytes
    assert report.packed.parameters == archive.manifest.parameters
    assert report.kv_nbytes == archive.program.kv_nbytes
    assert report.commands == {
        name: len(entry.commands) for name, entry in archive.program.entries.items()
    }
    assert report.measured_peak > 0
    assert report.predicted_peak > 0


def test_parameters_are_those_of_the_checkpoint(tiny: Path, tmp_path: Path) -> None:
    from safetensors import safe_open

    report = compile_model(tiny, tmp_path / "m.har", wanted(weights="int4"))
    with safe_open(tiny / "model.safetensors", "numpy") as file:
        total = sum(file.get_tensor(name).size for name in file.keys())  # noqa: SIM118
    assert report.packed.parameters == total
