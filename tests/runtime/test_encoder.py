"""Encoders: vectors of texts, pairs and ids, the same bits everywhere, long texts cut as other tools cut them."""

from __future__ import annotations

import json
import threading
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.bert import BERT, hidden, random_tensors
from support.command_line import hearth
from support.encoders import CLS, SEP, WORDS, compile_encoder, write_encoder
from tokenizers import Tokenizer as Backend

from hearth.runtime import Encoder, Model, load, load_any, load_encoder, load_graph, native
from hearth.runtime.text.tokenizer import Encoded
from hearth.schemas.errors import ArchiveError, HearthError, InputError, UsageError

F32 = {"weights": "f32", "kv": "f32"}
INT8 = {"weights": "int8", "activations": "dynamic"}
TEXTS = ["av bw", "cx", "dy ez fv gw av bv cv dv ev", "", "gz " * 39]


@cache
def folder() -> Path:
    import tempfile

    return Path(tempfile.mkdtemp(prefix="encoders"))


@cache
def source(**changes: Any) -> Path:
    name = "-".join(f"{key}={value}" for key, value in changes.items()) or "plain"
    return write_encoder(folder() / name, **changes)


@cache
def archive(scheme: str = "f32", pooling: str = "mean", **changes: Any) -> Path:
    place = source(**changes)
    output = folder() / f"{place.name}-{scheme}-{pooling}.har"
    return compile_encoder(place, output, pooling=pooling, **{"f32": F32, "int8": INT8}[scheme])


def ids_of(text: str) -> list[int]:
    return [CLS, *(WORDS.index(word) for word in text.split()), SEP]


def reference(ids: list[int], types: list[int] | None = None) -> NDArray[np.float64]:
    return hidden(BERT, random_tensors(BERT), ids, types)


def test_the_vector_is_the_mean_of_the_rows_the_papers_define() -> None:
    encoder = load_encoder(archive())
    found = encoder.embed(["av bw", "cx"])
    assert (found.shape, found.dtype) == ((2, 24), np.float32)
    assert (encoder.columns, encoder.context, encoder.has_types) == (24, 40, True)
    for row, text in zip(found, ["av bw", "cx"], strict=True):
        np.testing.assert_allclose(row, reference(ids_of(text)).mean(0), rtol=2e-4, atol=2e-5)


def test_the_rows_of_a_text() -> None:
    found = load_encoder(archive()).hidden("av bw cx")
    assert found.shape == (5, 24)
    np.testing.assert_allclose(found, reference(ids_of("av bw cx")), rtol=2e-4, atol=2e-5)


def test_a_pair_has_its_types() -> None:
    encoder = load_encoder(archive())
    encoded = encoder.encode(("av bw", "cx"))
    assert list(encoded.ids) == [*ids_of("av bw"), WORDS.index("cx"), SEP]
    assert list(encoded.types) == [0, 0, 0, 0, 1, 1]
    wanted = reference(list(encoded.ids), list(encoded.types)).mean(0)
    np.testing.assert_allclose(encoder.embed([("av bw", "cx")])[0], wanted, rtol=2e-4, atol=2e-5)
    assert not np.allclose(wanted, reference(list(encoded.ids)).mean(0), rtol=1e-2)


def test_ids_are_taken_as_they_are() -> None:
    encoder = load_encoder(archive())
    ids = ids_of("av bw")
    forms: list[Any] = [ids, tuple(ids), np.array(ids), Encoded(ids, [0] * 4), "av bw"]
    found = [encoder.embed([form])[0] for form in forms]
    for each in found[1:]:
        np.testing.assert_array_equal(each, found[0])


@pytest.mark.parametrize("pooling", ["mean", "cls", "last", "max"])
@pytest.mark.parametrize("scheme", ["f32", "int8"])
def test_the_same_bits_everywhere(scheme: str, pooling: str) -> None:
    """On every instruction set, for any threads, whatever stands beside a text and came before it."""
    path = archive(scheme, pooling)
    wanted = load_encoder(path, threads=1, isa="portable").embed(TEXTS)
    rows = load_encoder(path, threads=1, isa="portable").hidden(TEXTS[2])
    for isa in native.isas():
        for threads in (1, 2, 5):
            encoder = load_encoder(path, threads=threads, isa=isa)
            assert (encoder.isa, encoder.threads) == (isa, threads)
            np.testing.assert_array_equal(encoder.embed(TEXTS), wanted)
            np.testing.assert_array_equal(encoder.embed(TEXTS[::-1])[::-1], wanted)
            np.testing.assert_array_equal(encoder.hidden(TEXTS[2]), rows)
    single = np.concatenate([encoder.embed(text) for text in TEXTS])
    np.testing.assert_array_equal(single, wanted)


@pytest.mark.parametrize("scheme", ["f32", "int8"])
def test_texts_that_share_a_run_do_not_touch_each_other(scheme: str) -> None:
    """Sixty texts of 1 to 40 tokens: each vector is the one of its text alone."""
    rng = np.random.default_rng(0)
    texts = [rng.integers(3, len(WORDS), n).tolist() for n in (*range(1, 41), *[2] * 20)]
    rng.shuffle(texts)
    encoder = load_encoder(archive(scheme), threads=2)
    assert not encoder.engine.one_sequence(encoder.entry_numbers["main"])
    single = np.concatenate([encoder.embed([text]) for text in texts])
    np.testing.assert_array_equal(encoder.embed(texts), single)
    assert encoder.embed([]).shape == (0, 24)


@pytest.mark.parametrize("pooling", ["mean", "cls", "last", "max"])
def test_pooling_is_what_it_is_called(pooling: str) -> None:
    encoder = load_encoder(archive("f32", pooling))
    rows = encoder.hidden(TEXTS[2])
    wanted = {
        "mean": rows.astype(np.float64).mean(0), "cls": rows[0], "last": rows[-1], "max": rows.max(0),
    }[pooling]  # fmt: skip
    np.testing.assert_allclose(encoder.embed(TEXTS[2])[0], wanted, rtol=1e-5, atol=1e-6)


def test_without_pooling_there_are_rows_alone() -> None:
    encoder = load_encoder(archive("f32", "none"))
    with pytest.raises(UsageError) as caught:
        encoder.embed("av")
    assert caught.value.code == "arguments.pooling"
    np.testing.assert_array_equal(encoder.hidden("av"), load_encoder(archive()).hidden("av"))


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize(
    "texts",
    [("av " * 60, None), ("av " * 60, "bw cx"), ("av bw", "cx " * 60), ("av " * 50, "cx " * 50)],
)
def test_long_texts_are_cut_as_other_tools_cut(side: str, texts: tuple[str, str | None]) -> None:
    """Special tokens stay, the longer of a pair loses first."""
    place = source(side=side)
    encoder = load_encoder(archive(side=side))
    backend = Backend.from_file(str(place / "tokenizer.json"))
    backend.enable_truncation(40, strategy="longest_first", direction=side)
    wanted = backend.encode(*texts)
    found = encoder.encode(texts[0] if texts[1] is None else (texts[0], texts[1]))
    assert (list(found.ids), list(found.types)) == (wanted.ids, wanted.type_ids)
    assert (found.ids[0], found.ids[-1], len(found.ids)) == (CLS, SEP, 40)
    assert len(encoder.tokenizer.encode("av " * 60)) == 62  # its own tokenizer cuts nothing


REFUSED: dict[str, tuple[Any, str, str]] = {
    "an id beyond the table": ([1, 53], "input.token_range", "53"),
    "a negative id": ([-1], "input.token_range", "-1"),
    "no ids": ([], "input.empty", "no tokens"),
    "ids that are no integers": ([1.5], "input.token_type", "float"),
    "ids beyond the context": ([1] * 41, "input.context_full", "41"),
    "types beyond the table": (Encoded([1, 2], [0, 2]), "input.token_range", "type id 2"),
    "types that are no integers": (Encoded([1], [0.5]), "input.token_range", "type id 0.5"),  # type: ignore[list-item]
    "fewer types than ids": (Encoded([1, 2], [0]), "input.token_type", "1 types for 2 ids"),
    "a lone surrogate": ("av \udc80", "input.text", "index 3"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read(case: str) -> None:
    text, code, words = REFUSED[case]
    encoder = load_encoder(archive())
    with pytest.raises(InputError, match=words) as caught:
        encoder.embed([text])
    assert caught.value.code == code
    assert encoder.embed(["av"]).shape == (1, 24)  # and it goes on


def test_no_texts_are_no_vectors() -> None:
    assert load_encoder(archive()).embed([]).shape == (0, 24)


def test_without_a_tokenizer_there_are_ids_alone() -> None:
    encoder = load_encoder(archive(tokenizer=False))
    assert not encoder.has_tokenizer
    assert encoder.embed([ids_of("av")]).shape == (1, 24)
    with pytest.raises(InputError, match="no tokenizer") as caught:
        encoder.embed("av")
    assert caught.value.code == "input.not_in_archive"


def test_one_type_is_no_port() -> None:
    encoder = load_encoder(archive(type_vocab_size=1))
    assert not encoder.has_types
    found = encoder.encode(("av", "bw"))
    np.testing.assert_array_equal(encoder.embed([found]), encoder.embed([list(found.ids)]))


def test_threads_share_an_encoder() -> None:
    encoder = load_encoder(archive("int8"), threads=2)
    wanted = encoder.embed(TEXTS)
    found: dict[int, NDArray[np.float32]] = {}

    def work(number: int) -> None:
        found[number] = encoder.embed(TEXTS[number:] + TEXTS[:number])

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for number, rows in found.items():
        np.testing.assert_array_equal(np.roll(rows, number, axis=0), wanted)
    assert len(found) == 4


def test_the_wrong_call_names_the_right_one(tmp_path: Path, archives: Any) -> None:
    decoder = archives("tiny", weights="int8")
    cases = [(load, archive(), "load_encoder"), (load_graph, archive(), "load_encoder")]
    cases += [(load_encoder, decoder, r"load\(\)"), (load_graph, decoder, r"load\(\)")]
    for call, path, remedy in cases:
        with pytest.raises(ArchiveError, match=remedy) as caught:
            call(path)
        assert caught.value.code == "archive.kind"
    assert isinstance(load_any(archive()), Encoder)
    assert isinstance(load_any(decoder), Model)


def test_run_prints_vectors(capsys: pytest.CaptureFixture[str]) -> None:
    wanted = load_encoder(archive()).embed(["av bw"])[0]
    assert hearth("run", archive(), "av bw", "--stats") == 0
    out, err = capsys.readouterr()
    assert np.array_equal(np.array(out.split(), np.float32), wanted)
    assert "1 texts, 4 tokens" in err
    assert hearth("run", archive(), "av bw", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert np.array_equal(np.array(found["embeddings"][0], np.float32), wanted)
    assert found["tokens"] == [ids_of("av bw")]


def test_run_on_ids_pairs_and_rows(capsys: pytest.CaptureFixture[str]) -> None:
    encoder = load_encoder(archive())
    assert hearth("run", archive(), "av", "--pair", "bw", "--json") == 0
    found = json.loads(capsys.readouterr().out)["embeddings"]
    assert np.array_equal(np.array(found, np.float32), encoder.embed([("av", "bw")]))
    assert hearth("run", archive(), "2 5 3", "--ids", "--hidden") == 0
    lines = capsys.readouterr().out.splitlines()
    rows = np.array([line.split() for line in lines], np.float32)
    assert np.array_equal(rows, encoder.hidden([2, 5, 3]))


@pytest.mark.parametrize("options", [["--chat"], ["--max-tokens", "3"], ["--input", "a=b.npy"]])
def test_run_refuses_options_of_other_kinds(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert hearth("run", archive(), "av", *options) == 2
    error = capsys.readouterr().err
    assert options[0] in error
    assert "arguments.kind" in error


def test_inspect_and_bench(capsys: pytest.CaptureFixture[str]) -> None:
    assert hearth("inspect", archive("int8")) == 0
    text = capsys.readouterr().out
    for words in (
        "encoder",
        "f32[24], pooling mean, not normalised",
        "types i32[T]",
        "embedding f32[1, 24]",
    ):
        assert words in text
    assert hearth("inspect", archive("int8"), "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["entries"]["hidden"]["outputs"] == {"hidden": "f32[T, 24]"}
    assert set(facts["kernels"]["entries"]) == {"main", "hidden"}
    assert hearth("bench", archive("int8"), "--runs", "1", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["prompt_tokens"] for each in found["results"]] == [16]
    assert hearth("bench", archive("int8"), "--prompts", "41") == InputError.exit_code


def test_errors_are_the_users(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(HearthError):
        load_encoder(archive(), isa="abacus")
    assert hearth("run", archive(), "1 x", "--ids") == InputError.exit_code
    assert "input.token_type" in capsys.readouterr().err
