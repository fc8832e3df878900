"""Methods and calibrated codes with families that are not Llama: what works, and what refuses with the reason."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import phi
from support.checkpoints import GEMMA, GEMMA2, GEMMA3, PARTLY_TURNED, write_checkpoint
from support.desk import SHAPE, TOKENIZER

from hearth.compiler.job import Options, options
from hearth.compiler.pipeline import compile_model
from hearth.runtime import load
from hearth.schemas.errors import HearthError
from hearth.schemas.recipe import make_recipe

TEXT = " ".join(f"w{number}" for number in np.random.default_rng(0).integers(1, SHAPE.vocab, 300))
FAMILIES: Mapping[str, Mapping[str, Any]] = {
    "gemma": GEMMA,
    "gemma2": GEMMA2,
    "gemma3": GEMMA3,
    "phi": phi.PHI,
    "phi3": PARTLY_TURNED,
}
STATIC = {"activations": "static", "kv": "int8-static"}
WORKS: dict[str, tuple[str, dict[str, str]]] = {
    "gemma, all": ("gemma", {"method": "gptq,smoothquant,quarot,rotate-down,tune", **STATIC}),
    "gemma2, second order": ("gemma2", {"method": "gptaq,lwc,importance", **STATIC}),
    "gemma2, factors and a rotation": ("gemma2", {"method": "gptq,smoothquant,rotate-down"}),
    "gemma3, second order": ("gemma3", {"method": "gptaq,peaks", **STATIC}),
    "gemma3, tuned": ("gemma3", {"method": "gptq,smoothquant,rotate-down,tune"}),
    "phi, all": ("phi", {"method": "gptq,smoothquant,quarot,rotate-down,tune", **STATIC}),
    "phi, second order": ("phi", {"method": "gptaq,lwc,importance", **STATIC}),
    "phi3, all": ("phi3", {"method": "gptq,smoothquant,quarot,rotate-down,tune", **STATIC}),
}
REFUSES: dict[str, tuple[str, str, str, str]] = {
    "gemma2, stream": ("gemma2", "quarot", "transform.rotate", "feeds the residual stream"),
    "gemma3, stream": ("gemma3", "gptq,quarot", "transform.rotate", "feeds the residual stream"),
    "gemma2, gradients": ("gemma2", "gptq,tune", "calibration.tune", "capped scores"),
}


def _source(folder: Path, family: str) -> Path:
    config = {**FAMILIES[family], "vocab_size": SHAPE.vocab}
    tensors = phi.random_tensors(config) if family == "phi" else None
    source = write_checkpoint(folder / "src", config, tensors)
    (source / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    (folder / "text").write_text(TEXT)
    return source


def _wanted(folder: Path, **values: object) -> Options:
    recipe = {
        "source": "s", "output": "o", "target": "x86-64-v3", "weights": "int8",
        "calibration": str(folder / "text"), "calibration_windows": 4, "calibration_context": 24,
    }  # fmt: skip
    return options(make_recipe({**recipe, **values}))


@pytest.mark.parametrize("case", WORKS)
def test_methods_keep_the_function(case: str, tmp_path: Path) -> None:
    family, values = WORKS[case]
    source = _source(tmp_path, family)
    compile_model(source, tmp_path / "m.har", _wanted(tmp_path, **values))
    plain = {"source": "s", "output": "o", "weights": "f32", "kv": "f32", "target": "x86-64-v3"}
    compile_model(source, tmp_path / "f.har", options(make_recipe(plain)))
    rows = []
    for name in ("f.har", "m.har"):
        session = load(tmp_path / name).session()
        prompt = session.prefill([5, 9, 2, 30, 11, 4, 8, 21, 3])
        rows.append((prompt, session.decode(7), session.decode(12)))
    for one, other in zip(*rows, strict=True):
        assert np.abs(one - other).max() <= 0.25 * np.abs(one).max()


@pytest.mark.parametrize("case", REFUSES)
def test_what_the_algebra_does_not_let_is_refused(case: str, tmp_path: Path) -> None:
    family, method, code, reason = REFUSES[case]
    source = _source(tmp_path, family)
    with pytest.raises(HearthError, match=reason) as caught:
        compile_model(source, tmp_path / "m.har", _wanted(tmp_path, method=method))
    assert caught.value.code == code
    assert not (tmp_path / "m.har").exists()
