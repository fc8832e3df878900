"""`hearth compile`: flags over recipe over defaults, its output in text and JSON, and its errors by exit code."""

from __future__ import annotations

import json
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from support.checkpoint import write_checkpoint

from hearth.compiler.compile_options import RecipeOptions
from hearth.compiler.job import options
from hearth.runtime.archive import open_archive
from hearth.runtime.cli import run
from hearth.schemas.commands import KVScheme
from hearth.schemas.recipe import make_recipe

COMMANDS = {
    "compile": EntryPoint("compile", "hearth.compiler.cli:compile_command", "hearth.commands")
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("source"))


def hearth(*arguments: str | Path) -> int:
    return run(["compile", *map(str, arguments)], COMMANDS)


def test_the_defaults_make_an_int4_archive(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert hearth(source, "-o", tmp_path / "m.har", "--target", "x86-64-v3") == 0
    manifest = open_archive(tmp_path / "m.har").manifest
    assert manifest.schemes.weights == "int4_g32"
    assert (manifest.schemes.embeddings, manifest.schemes.activations) == ("int8", "dynamic")
    assert (manifest.schemes.kv, manifest.targets) == ("int8", ("x86-64-v3",))
    assert (manifest.bos, manifest.eos) == (1, (2,))
    said = capsys.readouterr().out
    assert "peak memory will be about" in said
    assert str(tmp_path / "m.har") in said


def test_json_is_one_object_per_line(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert hearth(source, "-o", tmp_path / "m.har", "--json") == 0
    out, err = capsys.readouterr()
    events = [json.loads(line) for line in out.splitlines()]
    assert [event["event"] for event in events] == ["predicted", "compiled"]
    assert events[-1]["packed"]["archive_nbytes"] == (tmp_path / "m.har").stat().st_size
    steps = [json.loads(line) for line in err.splitlines()]
    assert [step["title"] for step in steps if step["event"] == "done"] == [
        "pack weights",
        "golden vectors",
    ]
    assert all(step["units"] <= step["total"] for step in steps)


def test_flags_win_over_the_recipe(source: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "r.toml"
    recipe.write_text(f'source = "{source}"\noutput = "r.har"\nweights = "int8"\nkv = "f16"\n')
    assert hearth("--recipe", recipe, "--kv", "f32") == 0
    manifest = open_archive(tmp_path / "r.har").manifest
    assert (manifest.schemes.weights, manifest.schemes.kv) == ("int8", "f32")


def test_a_recipes_paths_start_from_its_folder(tmp_path: Path) -> None:
    recipe = tmp_path / "models/r.toml"
    recipe.parent.mkdir()
    recipe.write_text('source = "tiny"\noutput = "../build/tiny.har"\n')
    wanted = RecipeOptions(output="here.har").over(recipe)
    assert wanted.source == str(tmp_path / "models/tiny")
    assert wanted.output == "here.har"
    assert RecipeOptions().over(recipe).output == str(tmp_path / "models/../build/tiny.har")


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ({}, ("int4", 32, "int8", "dynamic")),
        ({"group_size": 128}, ("int4", 128, "int8", "dynamic")),
        ({"weights": "int8"}, ("int8", 0, "int8", "dynamic")),
        ({"weights": "f16"}, ("f16", 0, "f16", "none")),
        ({"weights": "f32", "embeddings": "int8"}, ("f32", 0, "int8", "none")),
        ({"activations": "none", "embeddings": "f16"}, ("int4", 32, "f16", "none")),
    ],
    ids=str,
)
def test_what_is_left_open_follows_from_the_weights(
    values: dict[str, object], names: tuple[str, int, str, str]
) -> None:
    scheme = options(make_recipe({"source": "s", "output": "o", **values})).scheme
    found = (scheme.weights.name, scheme.weights.group, scheme.embeddings.name, scheme.activations)
    assert found == names
    assert scheme.kv is KVScheme.INT8


BAD = {
    "no_source": ((), 2, "recipe.missing_key"),
    "no_output": (("SRC",), 2, "recipe.missing_key"),
    "source_not_there": (("nowhere", "-o", "OUT"), 3, "checkpoint.not_found"),
    "source_is_a_file": (("SRC/config.json", "-o", "OUT"), 3, "checkpoint.not_found"),
    "weights_unknown": (("SRC", "-o", "OUT", "--weights", "int9"), 2, "recipe.value"),
    "method_unknown": (("SRC", "-o", "OUT", "--method", "gptqq"), 2, "usage.method"),
    "tensor_without_scheme": (("SRC", "-o", "OUT", "--tensor", "a"), 2, "arguments.tensor"),
    "group_unknown": (("SRC", "-o", "OUT", "--group-size", "48"), 2, "recipe.value"),
    "group_no_number": (("SRC", "-o", "OUT", "--group-size", "many"), 2, "arguments.usage"),
    "float_dynamic": (
        ("SRC", "-o", "OUT", "--weights", "f32", "--activations", "dynamic"), 2, "usage.activations",
    ),
    "context_zero": (("SRC", "-o", "OUT", "--context", "0"), 2, "recipe.value"),
    "context_too_long": (("SRC", "-o", "OUT", "--context", "129"), 2, "context.out_of_range"),
    "target_unknown": (("SRC", "-o", "OUT", "--target", "sparc"), 2, "target.unknown"),
    "target_planned": (("SRC", "-o", "OUT", "--target", "armv8.6-i8mm"), 2, "target.planned"),
    "pass_unknown": (("SRC", "-o", "OUT", "--skip-pass", "magic"), 2, "usage.pass"),
    "pass_required": (("SRC", "-o", "OUT", "--skip-pass", "split"), 2, "usage.pass"),
    "threads_zero": (("SRC", "-o", "OUT", "--threads", "0"), 2, "arguments.threads"),
    "recipe_not_there": (("--recipe", "nowhere.toml"), 2, "recipe.unreadable"),
    "option_unknown": (("SRC", "-o", "OUT", "--fast"), 2, "arguments.usage"),
    "folder_not_there": (("SRC", "-o", "nowhere/m.har"), 6, "resource.unwritable"),
    "output_is_a_folder": (("SRC", "-o", "TMP"), 6, "resource.unwritable"),
    "dump_onnx_unknown": (("SRC", "-o", "OUT", "--dump", "OUT", "--dump-onnx", "x"), 2, "usage.dump_onnx"),
    "dump_onnx_alone": (("SRC", "-o", "OUT", "--dump-onnx", "quantize"), 2, "usage.dump_onnx"),
    "output_is_the_checkpoint": (("SRC", "-o", "SRC/model.safetensors"), 2, "usage.output"),
    "dump_is_a_file": (("SRC", "-o", "OUT", "--dump", "SRC/config.json"), 6, "resource.unwritable"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD.values(), ids=BAD)
def test_bad_input_gives_its_code_and_leaves_nothing(
    case: tuple[tuple[str, ...], int, str],
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments, exit_code, code = case
    monkeypatch.chdir(tmp_path)
    places = {"OUT": str(tmp_path / "m.har"), "TMP": str(tmp_path)}
    given = [places.get(argument, argument.replace("SRC", str(source))) for argument in arguments]
    assert hearth(*given) == exit_code
    said = capsys.readouterr().err
    assert f"[{code}]" in said
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


def test_every_step_is_dumped(source: Path, tmp_path: Path) -> None:
    """Text after every step, ONNX that its checker accepts before lowering."""
    import onnx

    assert hearth(source, "-o", tmp_path / "m.har", "--dump", tmp_path / "steps") == 0
    names = sorted(path.name for path in (tmp_path / "steps").iterdir())
    texts = [name for name in names if name.endswith(".txt")]
    assert texts[0] == "01-frontend.txt"
    assert texts[-1].endswith("-lower.txt")
    assert any("quantize" in name for name in texts)
    models = [name for name in names if name.endswith(".onnx")]
    assert "01-frontend.main.onnx" in models
    assert len([name for name in models if name.endswith(".decode.onnx")]) >= 5
    for name in models:
        onnx.checker.check_model(onnx.load(tmp_path / "steps" / name))
    program = (tmp_path / "steps" / texts[-1]).read_text()
    assert "rms_norm_quantize[T]" in program


def test_a_large_graph_is_dumped_as_text_alone(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hearth.compiler.dump.ONNX_LIMIT_NBYTES", 1000)
    assert hearth(source, "-o", tmp_path / "m.har", "--dump", tmp_path / "steps") == 0
    assert {path.suffix for path in (tmp_path / "steps").iterdir()} == {".txt"}
    named = ("--dump", tmp_path / "named", "--dump-onnx", "quantize")
    assert hearth(source, "-o", tmp_path / "m.har", *named) == 0
    models = sorted(path.name for path in (tmp_path / "named").glob("*.onnx"))
    assert [name.split("-", 1)[1] for name in models] == [
        "quantize.decode.onnx",
        "quantize.prefill.onnx",
    ]


def test_running_out_of_memory_is_told(
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("hearth.compiler.maker.quantize", fail)
    assert hearth(source, "-o", tmp_path / "m.har") == 6
    assert "[resource.memory]" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_source_is_named_even_from_within(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(source)
    assert hearth(".", "-o", tmp_path / "m.har") == 0
    assert open_archive(tmp_path / "m.har").manifest.source == source.name
