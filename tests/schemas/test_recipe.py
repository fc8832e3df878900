"""A recipe is one TOML file; what is wrong in it is said with the key and what it may be."""

from __future__ import annotations

from pathlib import Path

import pytest

from hearth.schemas.errors import UsageError
from hearth.schemas.recipe import Gate, Recipe, make_recipe, parse_recipe, read_recipe
from hearth.schemas.validation import schema

WHOLE = """
source = "checkpoint"
output = "model.har"
weights = "int8"
embeddings = "f16"
group_size = 64
activations = "none"
kv = "f16"
context = 2048
target = "x86-64-amx"
method = "rtn"
pooling = "cls"
calibration = "text.txt"
calibration_windows = 8
calibration_context = 128
calibration_range = "percentile"
work = "state"

[gate]
max_error = 1
max_kld = 0.5
min_top1 = 0.25
max_ppl_increase = 0.01
max_bits = 4.5

[tensors]
"layers.0.*" = "int6_g64"
"""


BASE = 'source = "a"\noutput = "b"\n'


def test_every_key() -> None:
    assert parse_recipe(WHOLE) == Recipe(
        "checkpoint", "model.har", "int8", "f16", 64, "none", "f16", 2048, "x86-64-amx", "rtn", "cls",
        Gate(1.0, 0.5, 0.25, 0.01, 4.5), {"layers.0.*": "int6_g64"}, "text.txt", 8, 128, "percentile", "state",
    )  # fmt: skip


def test_defaults() -> None:
    assert make_recipe({"source": "a", "output": "b"}) == Recipe("a", "b")


def test_a_gate_of_one_bound() -> None:
    gate = parse_recipe(BASE + "[gate]\nmax_kld = 0.5").gate
    assert gate == Gate(max_kld=0.5) and gate.asks
    assert not parse_recipe(BASE).gate.asks


def test_the_command_line_wins() -> None:
    recipe = parse_recipe(WHOLE, overrides={"weights": "int4", "kv": None, "output": "o.har"})
    assert (recipe.weights, recipe.kv, recipe.output) == ("int4", "f16", "o.har")


def test_paths_start_from_the_recipes_folder(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text(WHOLE)
    recipe = read_recipe(path, {"output": "here.har"})
    assert recipe.source == str(tmp_path / "checkpoint")
    assert recipe.output == "here.har"
    assert (recipe.calibration, recipe.work) == (
        str(tmp_path / "text.txt"),
        str(tmp_path / "state"),
    )


# TOML text: code, what the message must say
WRONG = {
    'source = "a"': ("recipe.missing_key", "output is missing"),
    "source = ": ("recipe.syntax", "not TOML"),
    BASE + 'weigths = "int4"': ("recipe.unknown_key", "weigths.*did you mean weights"),
    BASE + "[gates]\nmax_kld = 1": ("recipe.unknown_key", "unknown key gates"),
    BASE + "zzz = 1": ("recipe.unknown_key", "zzz.*one of activations, calibration"),
    BASE + 'weights = "int9"': ("recipe.value", "weights = 'int9'.*one of f32, f16, int8, int4"),
    BASE + 'embeddings = "x"': ("recipe.value", "embeddings = 'x'.*one of f32, f16, int8, int4"),
    BASE + "group_size = 48": ("recipe.value", "group_size = 48.*one of 32, 64, 128"),
    BASE + "group_size = 32.0": ("recipe.value", "group_size = 32.0.*type integer"),
    BASE + 'activations = "statics"': (
        "recipe.value",
        "activations = 'statics'.*one of none, dynamic",
    ),
    BASE + 'kv = "int4"': ("recipe.value", "kv = 'int4'.*one of f32, f16, int8"),
    BASE + "method = 1": ("recipe.value", "method = 1.*string"),
    BASE + "calibration_windows = 0": ("recipe.value", "calibration_windows = 0.*at least 1"),
    BASE + 'calibration_range = "max"': (
        "recipe.value",
        "one of minmax, percentile, least-squares",
    ),
    BASE + "[tensors]\na = 1": ("recipe.value", "tensors.a = 1.*string"),
    BASE + "[gate]\nmax_bits = 33": ("recipe.value", "gate.max_bits = 33.*at most 32"),
    BASE + "context = 0": ("recipe.value", "context = 0.*at least 1"),
    BASE + f"context = {10**30}": ("recipe.value", "context = 10"),
    BASE + f"context = {2**24 + 1}": ("recipe.value", "context = 16777217.*at most 16777216"),
    BASE + "context = true": ("recipe.value", "context = True.*integer"),
    BASE + 'pooling = "avg"': (
        "recipe.value",
        "pooling = 'avg'.*one of mean, cls, last, max, none",
    ),
    BASE + "gate = 1": ("recipe.value", "gate = 1.*object"),
    BASE + "[gate]\nmax_kl = 1": ("recipe.unknown_key", "unknown key gate.max_kl.*max_kld"),
    BASE + "[gate]\nmax_kld = nan": ("recipe.value", "gate.max_kld = nan"),
    BASE + "[gate]\nmin_top1 = 1.5": ("recipe.value", "gate.min_top1 = 1.5.*at most 1"),
    BASE + "[gate]\nmax_error = -1": ("recipe.value", "gate.max_error = -1.*at least 0"),
    "source = 1979-05-27\noutput = 'b'": ("recipe.value", "source = .*string"),
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_wrong_is_said_with_its_key(text: str) -> None:
    code, message = WRONG[text]
    with pytest.raises(UsageError, match=message) as caught:
        parse_recipe(text, "r.toml")
    assert caught.value.code == code
    assert str(caught.value).startswith("r.toml: ")
    assert caught.value.exit_code == 2


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    for path in (tmp_path / "none.toml", tmp_path, tmp_path / "binary.toml"):
        with pytest.raises(UsageError) as caught:
            read_recipe(path)
        assert caught.value.code == "recipe.unreadable"


def test_the_schema_names_every_field() -> None:
    assert list(schema("recipe")["properties"]) == list(Recipe.__dataclass_fields__)
