"""PEFT directories become adapters: the logits of the merged checkpoint, and refusals by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from support.checkpoint import Shape, write_checkpoint
from support.compiling import wanted
from support.lora import ALL, Peft, merged, write_peft

from hearth.compiler.lora.add import add_adapter
from hearth.compiler.pipeline import compile_model
from hearth.runtime import AdapterUse, load
from hearth.runtime.archive import append, open_archive
from hearth.schemas import sections
from hearth.schemas.errors import HearthError
from hearth.schemas.lora import AdapterWeights
from hearth.schemas.sections import Kind

IDS = np.random.default_rng(5).integers(0, 97, 20)
Change = Callable[[dict[str, Any], dict[str, np.ndarray]], None]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("lora") / "source")


@pytest.fixture(scope="module")
def base(source: Path) -> Path:
    return made(source, source.parent / "f32.har", weights="f32", kv="f32")


def made(source: Path, output: Path, **asked: object) -> Path:
    compile_model(source, output, wanted(**asked))
    return output


def copied(base: Path, folder: Path) -> Path:
    path = folder / "a.har"
    path.write_bytes(base.read_bytes())
    return path


def logits(path: Path, use: AdapterUse | None = None) -> np.ndarray:
    """After a prompt and after one token more."""
    session = load(path, threads=2).session(adapter=use)
    first = session.prefill(IDS[:-1])
    return np.stack([first, session.decode(int(IDS[-1]))])


@pytest.mark.parametrize(
    "peft",
    [
        Peft(),
        Peft(targets=("q_proj", "v_proj"), alpha=3),
        Peft(targets=("up_proj",), rank=1),
        Peft(more=(("use_rslora", True),)),
        Peft(more=(("rank_pattern", {"k_proj": 7}), ("alpha_pattern", {"k_proj": 21}))),
    ],
    ids=["all", "q and v", "up alone", "rslora", "patterns"],
)
def test_an_adapter_gives_what_the_merged_checkpoint_gives(
    source: Path, base: Path, tmp_path: Path, peft: Peft
) -> None:
    adapter = write_peft(tmp_path / "adapter", source, peft)
    path = copied(base, tmp_path)
    add_adapter(open_archive(path), "a", adapter, AdapterWeights.F32)
    whole = merged(tmp_path / "merged", source, adapter)
    expected = logits(made(whole, tmp_path / "m.har", weights="f32", kv="f32"))
    found = logits(path, AdapterUse("a"))
    assert np.abs(found - expected).max() < 1e-4
    assert np.abs(logits(path) - expected).max() > 0.05
    assert np.array_equal(logits(path), logits(base))


def test_half_an_adapter(source: Path, base: Path, tmp_path: Path) -> None:
    adapter = write_peft(tmp_path / "adapter", source)
    path = copied(base, tmp_path)
    add_adapter(open_archive(path), "a", adapter, AdapterWeights.F32)
    whole = merged(tmp_path / "merged", source, adapter, 0.5)
    expected = logits(made(whole, tmp_path / "m.har", weights="f32", kv="f32"))
    assert np.abs(logits(path, AdapterUse("a", 0.5)) - expected).max() < 1e-4


@pytest.mark.parametrize("weights", AdapterWeights)
@pytest.mark.parametrize(
    "scheme",
    [
        {"weights": "int8"},
        {"weights": "int4", "activations": "none"},
        {"weights": "f16"},
        {"weights": "int8", "skip": ("merge-linears", "fold-norm-gain", "fuse-gate")},
    ],
    ids=str,
)
def test_other_schemes_come_near_the_merged_checkpoint(
    source: Path, tmp_path: Path, scheme: dict[str, Any], weights: AdapterWeights
) -> None:
    adapter = write_peft(tmp_path / "adapter", source, Peft(spread=0.6))
    path = made(source, tmp_path / "a.har", **scheme)
    add_adapter(open_archive(path), "a", adapter, weights)
    whole = made(merged(tmp_path / "merged", source, adapter), tmp_path / "m.har", **scheme)
    plain, expected, found = logits(path), logits(whole), logits(path, AdapterUse("a"))
    assert np.abs(found - expected).mean() < 0.4 * np.abs(plain - expected).mean()


def test_an_untied_head_and_a_linear_that_stands_alone(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "s", Shape(tied=False))
    base = made(source, tmp_path / "a.har", weights="f32", kv="f32")
    adapter = write_peft(tmp_path / "adapter", source, Peft(targets=("lm_head", "down_proj")))
    add_adapter(open_archive(base), "a", adapter, AdapterWeights.F32)
    whole = merged(tmp_path / "merged", source, adapter)
    expected = logits(made(whole, tmp_path / "m.har", weights="f32", kv="f32"))
    assert np.abs(logits(base, AdapterUse("a")) - expected).max() < 1e-4


def _config(**values: object) -> Change:
    return lambda config, tensors: config.update(values)


def _cut(config: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    name = next(iter(tensors))
    tensors[name] = tensors[name][:, :-1]


def _lone(config: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    del tensors[next(name for name in tensors if "lora_B" in name)]


def _added(name: str) -> Change:
    def change(config: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
        tensors[f"base_model.model.{name}"] = np.zeros((4, 4), np.float32)

    return change


def _elsewhere(config: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    for side, shape in (("A", (4, 40)), ("B", (97, 4))):
        tensors[f"base_model.model.lm_head.lora_{side}.weight"] = np.zeros(shape, np.float32)


@pytest.mark.parametrize(
    ("code", "named", "change"),
    [
        ("lora.unsupported", "DoRA", _config(use_dora=True)),
        ("lora.unsupported", "PREFIX_TUNING", _config(peft_type="PREFIX_TUNING")),
        ("lora.unsupported", "bias is 'all'", _config(bias="all")),
        ("lora.unsupported", "modules_to_save", _config(modules_to_save=["lm_head"])),
        ("lora.unsupported", "pissa", _config(init_lora_weights="pissa_niter_4")),
        ("lora.unsupported", "lora_embedding_A", _added("model.embed_tokens.lora_embedding_A")),
        ("lora.unsupported", "magnitude", _added("x.lora_magnitude_vector.weight")),
        ("lora.shape", "rank 9", _config(r=9)),
        ("lora.shape", "0 for", _config(r=0)),
        ("lora.shape", "1000", _config(lora_alpha=10**400)),
        ("lora.shape", "patterns", _config(rank_pattern=["q_proj"])),
        ("lora.unsupported", "pattern", _config(rank_pattern={"(q+)+_proj": 4})),
        ("lora.unsupported", "pattern", _config(alpha_pattern={"q?_?p?r?o?j?": 4})),
        ("lora.shape", "down_proj", _cut),
        ("lora.shape", "no lora_B", _lone),
        ("lora.module", "lm_head", _elsewhere),
    ],
)
def test_what_is_no_plain_lora_is_refused_by_name(
    source: Path, base: Path, tmp_path: Path, code: str, named: str, change: Change
) -> None:
    adapter = write_peft(tmp_path / "adapter", source)
    config = json.loads((adapter / "adapter_config.json").read_text())
    tensors = load_file(adapter / "adapter_model.safetensors")
    change(config, tensors)
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    save_file(tensors, adapter / "adapter_model.safetensors")
    path = copied(base, tmp_path)
    before = path.read_bytes()
    with pytest.raises(HearthError, match=named) as caught:
        add_adapter(open_archive(path), "a", adapter)
    assert caught.value.code == code
    assert path.read_bytes() == before


def test_pickles_large_values_and_names_are_refused(
    source: Path, base: Path, tmp_path: Path
) -> None:
    adapter = write_peft(tmp_path / "adapter", source, Peft(alpha=1e7))
    path = copied(base, tmp_path)
    with pytest.raises(HearthError) as caught:
        add_adapter(open_archive(path), "a", adapter, AdapterWeights.F16)
    assert caught.value.code == "lora.range"
    for name in ("", "a b", "a:b", "a/data", "x" * 65):
        with pytest.raises(HearthError) as caught:
            add_adapter(open_archive(path), name, adapter)
        assert caught.value.code == "arguments.adapter_name"
    file = adapter / "adapter_model.safetensors"
    file.rename(adapter / "adapter_model.bin")
    with pytest.raises(HearthError, match="pickle") as caught:
        add_adapter(open_archive(path), "a", adapter)
    assert caught.value.code == "lora.unsupported"


@pytest.mark.parametrize("method", ["quarot", "quarot,rotate-down"])
@pytest.mark.parametrize("tied", [True, False])
def test_an_adapter_of_a_rotated_archive_gives_what_the_merged_checkpoint_gives(
    tied: bool, method: str, tmp_path: Path
) -> None:
    source = write_checkpoint(tmp_path / "s", Shape(tied=tied))
    targets = ALL if tied else (*ALL, "lm_head")
    adapter = write_peft(tmp_path / "adapter", source, Peft(targets=targets, spread=0.5))
    path = made(source, tmp_path / "a.har", weights="f32", kv="f32", method=method)
    add_adapter(open_archive(path), "a", adapter, AdapterWeights.F32)
    whole = merged(tmp_path / "merged", source, adapter)
    expected = logits(made(whole, tmp_path / "m.har", weights="f32", kv="f32"))
    largest = np.abs(expected).max()
    assert np.abs(logits(path, AdapterUse("a")) - expected).max() < 2e-5 * largest
    assert np.abs(logits(path) - expected).max() > 0.02 * largest


def test_a_tied_head_that_a_rotation_untied_is_still_no_linear(
    source: Path, tmp_path: Path
) -> None:
    path = made(source, tmp_path / "a.har", weights="int8", method="quarot")
    for module in ("lm_head", "model.embed_tokens"):
        adapter = write_peft(tmp_path / module, source)
        tensors = load_file(adapter / "adapter_model.safetensors")
        for side, shape in (("A", (4, 40)), ("B", (97, 4))):
            tensors[f"base_model.model.{module}.lora_{side}.weight"] = np.zeros(shape, np.float32)
        save_file(tensors, adapter / "adapter_model.safetensors")
        with pytest.raises(HearthError, match=module) as caught:
            add_adapter(open_archive(path), "a", adapter)
        assert caught.value.code == "lora.module"


def test_archives_without_a_record_or_with_an_earlier_one_take_none(
    source: Path, base: Path, tmp_path: Path
) -> None:
    adapter = write_peft(tmp_path / "adapter", source)
    old = Path(__file__).parents[1] / "archives"
    first = tmp_path / "old.har"
    first.write_bytes(next(old.glob("v1-*.har")).read_bytes())
    second = copied(base, tmp_path)
    earlier = msgpack.packb({"refused": "", "linears": []})
    append(second, [(sections.LINEARS, Kind.LINEARS, earlier)], replace={sections.LINEARS})
    for path in (first, second):
        with pytest.raises(HearthError, match="compile the checkpoint again") as caught:
            add_adapter(open_archive(path), "a", adapter)
        assert caught.value.code == "archive.no_adapters"
