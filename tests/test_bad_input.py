"""Bad input gives its documented error: the code, the exit code, one line, no traceback, no file left behind.

Every case runs `hearth` as a shell would; docs/errors.md lists the codes.
"""

from __future__ import annotations

import numpy as np
import pytest
from support.command_line import hearth, process
from support.desk import (
    GATE,
    Desk,
    far_operand,
    flip,
    put,
    swap_rows,
)
from support.refusals import Case, require_message, require_refusal

CHECKPOINTS = (
    Case("no_directory", lambda d: ("compile", d.folder / "none", "-o", "o.har"), "checkpoint.not_found", 3),
    Case("a_file", lambda d: ("compile", d.archive, "-o", "o.har"), "checkpoint.not_found", 3),
    Case("absurd_path", lambda d: ("compile", "x" * 5000, "-o", "o.har"), "checkpoint.not_found", 3),
    Case("no_config", lambda d: d.without("config.json"), "checkpoint.config_missing", 3),
    Case("config_folder", lambda d: d.folder_named("config.json"), "checkpoint.unreadable", 3),
    Case("config_cut", lambda d: d.file("config.json", '{"model_type": "qw'), "checkpoint.json_invalid", 3),
    Case("config_list", lambda d: d.file("config.json", "[]"), "checkpoint.json_invalid", 3),
    Case("config_deep", lambda d: d.file("config.json", "[" * 10**5), "checkpoint.json_invalid", 3),
    Case("config_not_text", lambda d: d.file("config.json", b"\xff\xfe"), "checkpoint.json_invalid", 3),
    Case("unknown_family", lambda d: d.config(model_type="mamba"), "family.unknown", 3),
    Case("another_architecture", lambda d: d.config(architectures=["Qwen2ForTokenClassification"]),
         "family.architecture", 3),
    Case("quantised_already", lambda d: d.config(quantization_config={"bits": 4}), "config.unsupported", 3),
    Case("unsupported_activation", lambda d: d.config(hidden_act="relu6"), "config.unsupported", 3),
    Case("unknown_key", lambda d: d.config(logit_softcap=30.0), "config.key_unknown", 3),
    Case("missing_key", lambda d: d.config(hidden_size=None), "config.key_missing", 3),
    Case("wrong_value", lambda d: d.config(num_hidden_layers="two"), "config.value_invalid", 3),
    Case("negative_size", lambda d: d.config(hidden_size=-16), "config.value_invalid", 3),
    Case("eps_infinite", lambda d: d.config(rms_norm_eps=float("inf")), "config.value_invalid", 3),
    Case("absurd_layers", lambda d: d.config(num_hidden_layers=10**12), "config.value_invalid", 3),
    Case("absurd_vocabulary", lambda d: d.config(vocab_size=10**15), "checkpoint.tensor_shape", 3),
    Case("no_weights", lambda d: d.without("model.safetensors"), "checkpoint.weights_missing", 3),
    Case("weights_folder", lambda d: d.folder_named("model.safetensors"), "checkpoint.unreadable", 3),
    Case("weights_empty", lambda d: d.weights(lambda b: b""), "checkpoint.truncated", 3),
    Case("weights_cut", lambda d: d.weights(lambda b: b[:-100]), "checkpoint.truncated", 3),
    Case("weights_tail", lambda d: d.weights(lambda b: b + b"x"), "checkpoint.trailing_bytes", 3),
    Case("weights_garbage", lambda d: d.weights(lambda b: b[:8] + b"?" * 9000), "checkpoint.header_invalid", 3),
    Case("weights_pickle", lambda d: d.weights(lambda b: b"\x80\x02}q\x00." * 99), "checkpoint.header_too_large", 3),
    Case("header_shape_lies", lambda d: d.header(lambda h: h[GATE].update(shape=[9, 9])),
         "checkpoint.tensor_size", 3),
    Case("header_overlaps", lambda d: d.header(lambda h: h.update(x=h[GATE])), "checkpoint.tensor_overlap", 3),
    Case("header_hole", lambda d: d.header(lambda h: h.pop(GATE)), "checkpoint.tensor_hole", 3),
    Case("tensor_missing", lambda d: d.tensor(lambda w: None), "checkpoint.tensor_missing", 3),
    Case("tensor_left_over", lambda d: d.tensor(np.copy, "extra"), "checkpoint.tensor_left_over", 3),
    Case("tensor_shape", lambda d: d.tensor(lambda w: w[:-1]), "checkpoint.tensor_shape", 3),
    Case("tensor_dtype", lambda d: d.tensor(np.int8), "checkpoint.dtype_unsupported", 3),
    Case("tensor_nan", lambda d: d.tensor(put(np.nan)), "checkpoint.not_finite", 3),
    Case("tensor_inf", lambda d: d.tensor(put(-np.inf)), "checkpoint.not_finite", 3),
    Case("shard_missing", lambda d: d.sharded({GATE: "b.safetensors"}), "checkpoint.shard_missing", 3),
    Case("shard_incomplete", lambda d: d.sharded({"x": "a.safetensors"}), "checkpoint.tensor_missing", 3),
    Case("shard_elsewhere", lambda d: d.sharded({GATE: "../a.safetensors"}), "checkpoint.index_invalid", 3),
    Case("tokenizer_cut", lambda d: d.file("tokenizer.json", "{"), "checkpoint.json_invalid", 3),
    Case("tokenizer_of_nothing", lambda d: d.file("tokenizer.json", "{}"), "checkpoint.tokenizer_invalid", 3),
    Case("tokenizer_broken", lambda d: d.file("tokenizer.json", '{"model": {"type": "BPE"}}'),
         "checkpoint.tokenizer_invalid", 3),
    Case("template_broken", lambda d: d.file("chat_template.jinja", "{% if %}"), "checkpoint.chat_template", 3),
    Case("defaults_broken", lambda d: d.file("generation_config.json", '{"top_k": "x"}'),
         "checkpoint.generation_config", 3),
    Case("f16_range", lambda d: (d.tensor(lambda w: put(1e6)(w.astype(np.float32))), d.compile("--weights", "f16"))[1],
         "quantize.f16_range", 3),
)  # fmt: skip
COMPILING = (
    Case("no_arguments", lambda d: ("compile",), "recipe.missing_key", 2),
    Case("no_output", lambda d: ("compile", d.source), "recipe.missing_key", 2),
    Case("unknown_weights", lambda d: d.compile("--weights", "int7"), "recipe.value", 2),
    Case("unknown_embeddings", lambda d: d.compile("--embeddings", "nf3"), "recipe.value", 2),
    Case("unknown_kv", lambda d: d.compile("--kv", "int4"), "recipe.value", 2),
    Case("unknown_activations", lambda d: d.compile("--activations", "guessed"), "recipe.value", 2),
    Case("static_without_a_text", lambda d: d.compile("--activations", "static"), "usage.calibration", 2),
    Case("float_with_dynamic", lambda d: d.compile("--weights", "f32", "--activations", "dynamic"),
         "usage.activations", 2),
    Case("half_with_dynamic", lambda d: d.compile("--weights", "f16", "--activations", "dynamic"),
         "usage.activations", 2),
    Case("group_size", lambda d: d.compile("--group-size", 48), "recipe.value", 2),
    Case("group_size_of_int8", lambda d: d.compile("--weights", "int8", "--group-size", 64), "usage.group_size", 2),
    Case("group_size_word", lambda d: d.compile("--group-size", "many"), "arguments.usage", 2),
    Case("unknown_target", lambda d: d.compile("--target", "sparc"), "target.unknown", 2),
    Case("planned_target", lambda d: d.compile("--target", "armv8.6-i8mm"), "target.planned", 2),
    Case("unknown_pass", lambda d: d.compile("--skip-pass", "no_such_pass"), "usage.pass", 2),
    Case("needed_pass", lambda d: d.compile("--skip-pass", "split"), "usage.pass", 2),
    Case("context_zero", lambda d: d.compile("--context", 0), "recipe.value", 2),
    Case("context_too_long", lambda d: d.compile("--context", 65), "context.out_of_range", 2),
    Case("context_absurd", lambda d: d.compile("--context", 2**62), "recipe.value", 2),
    Case("compile_threads", lambda d: d.compile("--threads", 0), "arguments.threads", 2),
    Case("recipe_not_there", lambda d: ("compile", "--recipe", d.folder / "none.toml"), "recipe.unreadable", 2),
    Case("recipe_is_a_folder", lambda d: ("compile", "--recipe", d.folder), "recipe.unreadable", 2),
    Case("recipe_syntax", lambda d: d.recipe("weights = "), "recipe.syntax", 2),
    Case("recipe_key", lambda d: d.recipe("source = 'a'\noutput = 'b'\nweigths = 'int4'"), "recipe.unknown_key", 2),
    Case("recipe_type", lambda d: d.recipe("source = 3\noutput = 'b'"), "recipe.value", 2),
    Case("output_is_a_weight", lambda d: d.to(d.source / "model.safetensors"), "usage.output", 2),
    Case("output_is_a_folder", lambda d: d.to(d.source), "resource.unwritable", 6),
    Case("output_is_a_device", lambda d: d.to("/dev/null"), "resource.unwritable", 6),
    Case("output_folder_missing", lambda d: d.to(d.folder / "none/m.har"), "resource.unwritable", 6),
    Case("output_below_a_file", lambda d: d.to(d.archive / "m.har"), "resource.unwritable", 6),
    Case("output_unwritable", lambda d: d.to("/proc/m.har"), "resource.unwritable", 6),
    Case("output_name_too_long", lambda d: d.to(d.folder / ("x" * 300)), "resource.unwritable", 6),
    Case("dump_unwritable", lambda d: d.compile("--dump", d.archive), "resource.unwritable", 6),
)  # fmt: skip
ARCHIVES = (
    Case("archive_not_there", lambda d: ("run", d.folder / "none.har", "x"), "archive.not_found", 4),
    Case("archive_is_a_folder", lambda d: ("run", d.source, "x"), "archive.not_found", 4),
    Case("inspect_not_there", lambda d: ("inspect", d.folder / "none.har"), "archive.not_found", 4),
    Case("archive_empty", lambda d: d.bytes(lambda b: b""), "archive.truncated", 4),
    Case("archive_header_cut", lambda d: d.bytes(lambda b: b[:50]), "archive.truncated", 4),
    Case("archive_half", lambda d: d.bytes(lambda b: b[: len(b) // 2]), "archive.truncated", 4),
    Case("archive_cut", lambda d: d.bytes(lambda b: b[:-1]), "archive.truncated", 4),
    Case("archive_of_another_kind", lambda d: d.bytes(lambda b: b"GGUF" + b[4:]), "archive.bad_magic", 4),
    Case("archive_newer", lambda d: d.archive_header(version=3), "archive.version", 4),
    Case("archive_unknown_feature", lambda d: d.forge(lambda f: f.features.update(sparse=5)), "archive.feature", 4),
    Case("archive_unnamed_feature", lambda d: d.archive_header(features=1), "archive.schema", 4),
    Case("header_flipped", lambda d: d.bytes(flip(20)), "archive.header", 4),
    Case("directory_flipped", lambda d: d.bytes(flip(-1)), "archive.directory_hash", 4),
    Case("manifest_flipped", lambda d: d.flip_in("manifest"), "archive.section_hash", 4),
    Case("tokenizer_flipped", lambda d: d.flip_in("tokenizer"), "archive.section_hash", 4),
    Case("weights_flipped", lambda d: d.flip_in("weights/", "--check", "full"), "archive.section_hash", 4),
    Case("sections_swapped", lambda d: d.forge(swap_rows("manifest", "kv_layout")), "archive.schema", 4),
    Case("sections_overlap", lambda d: d.forge(lambda f: f.row("program").__setitem__(2, 64)), "archive.overlap", 4),
    Case("no_program", lambda d: d.forge(lambda f: None, drop="program"), "archive.missing_section", 4),
    Case("program_points_outside", lambda d: d.program(far_operand), "archive.inconsistent", 4),
)  # fmt: skip
RUNNING = (
    Case("unknown_command", lambda d: ("runn", d.archive), "arguments.command", 2),
    Case("unknown_option", lambda d: d.run("1", "--colour"), "arguments.usage", 2),
    Case("no_archive", lambda d: ("run",), "arguments.usage", 2),
    Case("not_a_number", lambda d: d.ids("--threads", "two"), "arguments.usage", 2),
    Case("no_threads", lambda d: d.ids("--threads", 0), "arguments.threads", 2),
    Case("too_many_threads", lambda d: d.ids("--threads", 10**5), "arguments.threads", 2),
    Case("threads_variable", lambda d: d.ids(), "arguments.threads", 2, ("HEARTH_THREADS", "two")),
    Case("unknown_isa", lambda d: d.ids("--isa", "mmx"), "arguments.isa", 2),
    Case("isa_variable", lambda d: d.ids(), "arguments.isa", 2, ("HEARTH_ISA", "mmx")),
    Case("inspect_isa", lambda d: ("inspect", d.archive, "--isa", "mmx"), "arguments.isa", 2),
    Case("unknown_check", lambda d: d.ids("--check", "some"), "arguments.check", 2),
    Case("negative_temperature", lambda d: d.ids("--temperature", -1), "arguments.temperature", 2),
    Case("temperature_nan", lambda d: d.ids("--temperature", "nan"), "arguments.temperature", 2),
    Case("top_p_above_one", lambda d: d.ids("--top-p", 1.5), "arguments.top_p", 2),
    Case("top_p_zero", lambda d: d.ids("--top-p", 0), "arguments.top_p", 2),
    Case("min_p_above_one", lambda d: d.ids("--min-p", 1.5), "arguments.min_p", 2),
    Case("typical_p_zero", lambda d: d.ids("--typical-p", 0), "arguments.typical_p", 2),
    Case("no_penalty", lambda d: d.ids("--repetition-penalty", 0), "arguments.repetition_penalty", 2),
    Case("penalty_nan", lambda d: d.ids("--presence-penalty", "nan"), "arguments.presence_penalty", 2),
    Case("absurd_penalty", lambda d: d.ids("--frequency-penalty", 1e9), "arguments.frequency_penalty", 2),
    Case("negative_window", lambda d: d.ids("--penalty-window", -1), "arguments.penalty_window", 2),
    Case("bias_of_words", lambda d: d.ids("--logit-bias", "a=b"), "arguments.logit_bias", 2),
    Case("bias_twice", lambda d: d.ids("--logit-bias", "1=1", "--logit-bias", "1=2"), "arguments.logit_bias", 2),
    Case("bias_beyond", lambda d: d.ids("--logit-bias", "99999=1"), "arguments.logit_bias", 2),
    Case("negative_logprobs", lambda d: d.ids("--json", "--logprobs", -1), "arguments.logprobs", 2),
    Case("negative_top_k", lambda d: d.ids("--top-k", -1), "arguments.top_k", 2),
    Case("negative_seed", lambda d: d.ids("--seed", -1), "arguments.seed", 2),
    Case("no_tokens_wanted", lambda d: d.ids("--max-tokens", 0), "arguments.max_tokens", 2),
    Case("negative_tokens", lambda d: d.ids("--max-tokens", -3), "arguments.max_tokens", 2),
    Case("ids_and_chat", lambda d: d.ids("--chat"), "arguments.prompt", 2),
    Case("bench_of_nothing", lambda d: ("bench", d.archive, "--prompts", ""), "arguments.bench", 2),
    Case("bench_of_words", lambda d: ("bench", d.archive, "--prompts", "1,x"), "arguments.bench", 2),
    Case("bench_seed", lambda d: ("bench", d.archive, "--prompts", 4, "--seed", -1), "arguments.bench", 2),
)  # fmt: skip
PROMPTS = (
    Case("id_out_of_range", lambda d: d.run("1 40", "--ids"), "input.token_range", 5),
    Case("negative_id", lambda d: d.run("1 -1", "--ids"), "input.token_range", 5),
    Case("absurd_id", lambda d: d.run("9" * 30, "--ids"), "input.token_range", 5),
    Case("not_ids", lambda d: d.run("1 x", "--ids"), "input.token_type", 5),
    Case("no_ids", lambda d: d.run("", "--ids"), "input.empty", 5),
    Case("no_text", lambda d: d.run(""), "input.empty", 5),
    Case("not_unicode", lambda d: d.run("a\udcff"), "input.text", 5),
    Case("context_full", lambda d: d.run("w1 " * 65), "input.context_full", 5),
    Case("bench_beyond_context", lambda d: ("bench", d.archive, "--prompts", 60), "input.context_full", 5),
    Case("no_chat_template", lambda d: d.run("w1", "--chat"), "input.not_in_archive", 5),
    Case("no_tokenizer", lambda d: (d.forge(lambda f: None, drop="tokenizer"), d.run("w1"))[1],
         "input.not_in_archive", 5),
)  # fmt: skip
CASES = (*CHECKPOINTS, *COMPILING, *ARCHIVES, *RUNNING, *PROMPTS)
# One for every exit code, also run in a process of their own.
PROCESSES = ("unknown_kv", "tensor_nan", "program_points_outside", "no_tokenizer", "output_unwritable")  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input_is_refused(
    case: Case, desk: Desk, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    require_refusal(case, desk, capsys, monkeypatch)


@pytest.mark.parametrize("name", PROCESSES)
def test_a_shell_sees_one_line_and_the_exit_code(name: str, desk: Desk) -> None:
    (case,) = (case for case in CASES if case.name == name)
    arguments = case.make(desk)
    before = desk.listing()
    found = process(*arguments, cwd=desk.folder)
    assert found.returncode == case.exit_code, found.stderr
    (line,) = found.stderr.splitlines()
    assert line.startswith("hearth: ")
    require_message(line, case.code)
    assert desk.listing() == before


def test_names_are_distinct_and_every_kind_of_error_has_its_process() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)
    chosen = {case.exit_code for case in CASES if case.name in PROCESSES}
    assert chosen == {case.exit_code for case in CASES} == {2, 3, 4, 5, 6}


def test_the_good_input_is_good(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert hearth(*desk.compile()) == 0
    assert (desk.folder / "out.har").read_bytes() == desk.archive.read_bytes()
    assert hearth(*desk.ids("--max-tokens", 3)) == 0
    assert hearth(*desk.run("w1 w2", "--max-tokens", 3)) == 0
    assert hearth("bench", desk.archive, "--prompts", 8, "--decode", 2, "--runs", 1) == 0
