"""Adapters on archives whose linears were smoothed, coded by calibration or read static codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.desk import SHAPE, Desk, make_desk
from support.lora import Peft, merged, write_peft

from hearth.compiler.job import options
from hearth.compiler.lora.add import add_adapter
from hearth.compiler.pipeline import compile_model
from hearth.runtime import AdapterUse, load
from hearth.runtime.archive import open_archive
from hearth.schemas.recipe import make_recipe

TEXT = " ".join(f"w{number}" for number in np.random.default_rng(0).integers(1, SHAPE.vocab, 200))
STATIC = {"weights": "int8", "activations": "static", "kv": "int8-static"}
IDS = [5, 9, 2, 30, 7, 11]
SCHEMES: dict[str, dict[str, Any]] = {
    "smoothed": {"method": "smoothquant", "weights": "int8"},
    "smoothed f32": {
        "method": "smoothquant",
        "weights": "int8",
        "activations": "none",
        "kv": "f32",
    },
    "coded": {"method": "gptq", "weights": "int8"},
    "static": {"method": "rtn", **STATIC},
    "smoothed, coded, static": {"method": "smoothquant,gptq", **STATIC},
    "rotated, coded": {"method": "quarot,gptq", "weights": "int8"},
    "smoothed, rotated, coded, static": {"method": "smoothquant,quarot,gptq", **STATIC},
}


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    made = make_desk(tmp_path_factory.mktemp("desk"))
    (made.folder / "text").write_text(TEXT)
    write_peft(made.folder / "peft", made.source, Peft(spread=0.8))
    return made


def made(desk: Desk, source: Path, output: Path, **values: object) -> Path:
    calibration = {
        "calibration": str(desk.folder / "text"), "calibration_windows": 3, "calibration_context": 16,
    }  # fmt: skip
    given = calibration if values.get("method") else {}
    recipe = {"source": str(source), "output": str(output), "target": "x86-64-v3", **given}
    compile_model(source, output, options(make_recipe({**recipe, **values})))
    return output


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_an_adapter_does_what_it_does_to_the_float_model(
    scheme: dict[str, Any], desk: Desk, tmp_path: Path
) -> None:
    floats = {"weights": "f32", "kv": "f32"}
    whole = merged(tmp_path / "merged", desk.source, desk.folder / "peft")
    plain, wanted = (
        load(made(desk, source, tmp_path / "f.har", **floats)).session().prefill(IDS)
        for source in (desk.source, whole)
    )
    path = made(desk, desk.source, tmp_path / "m.har", **scheme)
    add_adapter(open_archive(path), "a", desk.folder / "peft")
    model = load(path, threads=2)
    found = model.session(adapter=AdapterUse("a")).prefill(IDS)
    error = found - model.session().prefill(IDS) - (wanted - plain)
    assert np.abs(error).mean() < 0.35 * np.abs(wanted - plain).mean()
