"""Decoders that make vectors: the rows before the head, pooled; the same bits everywhere; text goes on as before."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.checkpoints import LLAMA, QWEN2, QWEN3, random_tensors, write_checkpoint
from support.command_line import hearth
from support.encoders import CLS, SEP, WORDS, compile_encoder, write_tokenizer
from support.lora import Peft, write_peft
from support.plain_decoder import logits
from support.served import service

from hearth.compiler.check.recompile import recompile
from hearth.compiler.lora.add import add_adapter
from hearth.runtime import Model, load, native
from hearth.runtime.adapters import AdapterUse
from hearth.runtime.archive import open_archive
from hearth.runtime.archive.consistency import Parts, check_consistency
from hearth.runtime.decoder_vectors import POOLED, runs, unit
from hearth.runtime.text.tokenizer import Encoded
from hearth.runtime.verify.golden import replay
from hearth.schemas import sections
from hearth.schemas.codec import loads
from hearth.schemas.errors import ArchiveError, InputError, UsageError
from hearth.schemas.golden import Golden
from hearth.schemas.provenance import read_provenance

SCHEMES: dict[str, dict[str, Any]] = {
    "f32": {"weights": "f32", "kv": "f32"},
    "int8": {"weights": "int8", "activations": "dynamic"},
}
CONFIGS = {"llama": LLAMA, "qwen2": QWEN2, "qwen3": QWEN3}
TEXTS = ["av bw", "cx", "dy ez fv gw av bv cv dv ev", "gz " * 70]
POOLINGS = ["last", "mean", "cls", "max"]


@cache
def folder() -> Path:
    import tempfile

    return Path(tempfile.mkdtemp(prefix="vectors"))


@cache
def source(family: str = "llama") -> Path:
    place = write_checkpoint(folder() / family, CONFIGS[family])
    write_tokenizer(place)
    return place


@cache
def archive(scheme: str = "f32", pooling: str | None = "last", family: str = "llama") -> Path:
    output = folder() / f"{family}-{scheme}-{pooling}.har"
    return compile_encoder(source(family), output, pooling=pooling, **SCHEMES[scheme])


def parts(path: Path) -> Parts:
    return open_archive(path).parts()


def rows_of(family: str, text: str) -> NDArray[np.float64]:
    """The rows before the head, by the papers: the head is the identity."""
    ids = [CLS, *(WORDS.index(word) for word in text.split()), SEP]
    config = CONFIGS[family]
    head = np.eye(config["hidden_size"], dtype=np.float32)
    return logits(config, {**random_tensors(config), "lm_head.weight": head}, ids)


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize("pooling", POOLINGS)
def test_the_vector_is_the_pooled_rows_the_papers_define(family: str, pooling: str) -> None:
    found = load(archive("f32", pooling, family)).embed(TEXTS[:3])
    assert (found.shape, found.dtype) == ((3, 24), np.float32)
    for vector, text in zip(found, TEXTS, strict=False):
        rows = rows_of(family, text)
        wanted = {"last": rows[-1], "mean": rows.mean(0), "cls": rows[0], "max": rows.max(0)}
        np.testing.assert_allclose(vector, wanted[pooling], rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("pooling", POOLINGS)
def test_the_same_bits_everywhere(scheme: str, pooling: str) -> None:
    """On every instruction set, for any threads, in chunks of any size, whatever was read before."""
    path = archive(scheme, pooling)
    model = load(path, threads=1, isa="portable")
    wanted, rows = model.embed(TEXTS), model.vectors().hidden(TEXTS[2])
    for isa in native.isas():
        for threads in (1, 3):
            model = load(path, threads=threads, isa=isa)
            for chunk in (1, 3, None):
                vectors = model.vectors(chunk=chunk)
                np.testing.assert_array_equal(vectors.embed(TEXTS), wanted)
                np.testing.assert_array_equal(vectors.embed(TEXTS[::-1])[::-1], wanted)
                np.testing.assert_array_equal(vectors.hidden(TEXTS[2]), rows)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("pooling", POOLINGS)
def test_texts_of_one_request_share_runs_and_change_no_bit(scheme: str, pooling: str) -> None:
    """Also more of them than one run takes, and such as begin in one run and end in another."""
    model = load(archive(scheme, pooling), threads=2)
    lengths = [1, 1, 30, 5, 64, 2, *[1] * 20, 63, 7]
    rng = np.random.default_rng(5)
    texts = [rng.integers(0, 53, length).tolist() for length in lengths]
    alone = np.concatenate([model.embed([text]) for text in texts])
    for chunk in (1, 2, 33, None):
        np.testing.assert_array_equal(model.vectors(chunk=chunk).embed(texts), alone)


def test_runs_are_full_and_keep_the_order() -> None:
    (first, second, third) = runs([3, 2, 9], 6)
    assert [(part.text, part.start, part.stop, part.last) for part in (*first, *second, *third)] == [
        (0, 0, 3, True), (1, 0, 2, True), (2, 0, 1, False), (2, 1, 7, False), (2, 7, 9, True),
    ]  # fmt: skip
    assert [len(run) for run in runs([1] * 40, 64)] == [16, 16, 8]
    assert not list(runs([], 5))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_pooling_is_of_the_rows(scheme: str) -> None:
    for pooling in POOLINGS:
        vectors = load(archive(scheme, pooling)).vectors()
        rows = vectors.hidden(TEXTS[2])
        wanted = {
            "last": rows[-1],
            "mean": rows.mean(0, np.float64).astype(np.float32),
            "cls": rows[0],
            "max": rows.max(0),
        }
        np.testing.assert_array_equal(vectors.embed(TEXTS[2])[0], wanted[pooling])


def test_no_number_stays_where_there_is_one() -> None:
    rows = np.array([[1, 2, np.nan], [0, np.nan, 5], [3, 1, 1]], np.float32)
    pool = POOLED["max"].pool()
    for part in (rows[:1], rows[1:1], rows[1:]):
        pool.add(part)
    np.testing.assert_array_equal(pool.vector, [3, np.nan, np.nan])
    assert not unit(np.zeros(3)).any()


def test_ids_are_taken_as_they_are_and_never_cut() -> None:
    model = load(archive())
    ids = list(model.vectors().encode("av bw").ids)
    forms: list[Any] = [ids, np.array(ids), Encoded(ids, [0] * 4), "av bw"]
    found = [model.embed([form])[0] for form in forms]
    assert all(np.array_equal(each, found[0]) for each in found)
    assert len(model.vectors().encode(TEXTS[3]).ids) == model.context
    for bad, code in (
        ([3] * 65, "input.context_full"),
        ([], "input.empty"),
        ([53], "input.token_range"),
    ):
        with pytest.raises(InputError) as caught:
            model.embed([bad])
        assert caught.value.code == code
    assert model.embed([]).shape == (0, 24)


def test_the_files_of_sentence_transformers_are_read(tmp_path: Path) -> None:
    place = write_checkpoint(tmp_path / "model")
    write_tokenizer(place)
    steps = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")]
    modules = [
        {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for place, (kind, path) in enumerate(steps)
    ]  # fmt: skip
    (place / "modules.json").write_text(json.dumps(modules))
    (place / "1_Pooling").mkdir()
    modes = {"pooling_mode_lasttoken": True, "pooling_mode_mean_tokens": False}
    (place / "1_Pooling" / "config.json").write_text(json.dumps(modes))
    model = load(compile_encoder(place, tmp_path / "files.har", **SCHEMES["f32"]))
    embedding = model.manifest.embedding
    assert embedding is not None and (embedding.pooling, embedding.normalised) == ("last", True)
    found = model.embed("av bw")[0]
    plain = load(archive()).embed("av bw")[0].astype(np.float64)
    np.testing.assert_array_equal(found, (plain / np.linalg.norm(plain)).astype(np.float32))


def test_it_goes_on_continuing_text_with_the_same_bits() -> None:
    """Beside a session; and of tied embeddings, whose head takes no gain, as an archive without pooling does."""
    for scheme in SCHEMES:
        model = load(archive(scheme, "last", "qwen2"))
        plain = load(archive(scheme, None, "qwen2"))
        session, other = model.session(), plain.session()
        np.testing.assert_array_equal(session.prefill([3, 4, 5]), other.prefill([3, 4, 5]))
        model.embed(TEXTS)
        np.testing.assert_array_equal(session.decode(6), other.decode(6))


def test_without_pooling_nothing_is_changed() -> None:
    plain = open_archive(archive("f32", None, "qwen2"))
    assert plain.manifest.entries == ("prefill", "decode") and plain.manifest.embedding is None
    pooled = open_archive(archive("f32", "last", "qwen2"))
    assert pooled.manifest.entries == ("prefill", "decode", "hidden")
    assert pooled.section("weights/x86-64-v3") == plain.section("weights/x86-64-v3")
    with pytest.raises(UsageError) as caught:
        Model.embed(load(archive("f32", None)), "av")
    assert caught.value.code == "arguments.pooling"


def test_an_adapter_counts(tmp_path: Path) -> None:
    path = tmp_path / "adapted.har"
    path.write_bytes(archive().read_bytes())
    add_adapter(
        open_archive(path), "loud", write_peft(tmp_path / "peft", source(), Peft(spread=2.0))
    )
    model = load(path)
    plain = model.embed(TEXTS)
    loud = model.vectors(AdapterUse("loud")).embed(TEXTS)
    assert not np.allclose(plain, loud, rtol=1e-2)
    np.testing.assert_array_equal(model.vectors(AdapterUse("loud"), chunk=2).embed(TEXTS), loud)
    with service({"a": path}).using("a:loud") as held:
        np.testing.assert_array_equal(held.embed(TEXTS), loud)
    with pytest.raises(UsageError, match="quiet"):
        model.vectors(AdapterUse("quiet"))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_verify_and_inspect_know_it(scheme: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = archive(scheme, "mean")
    assert hearth("verify", path) == 0
    capsys.readouterr()
    assert hearth("inspect", path) == 0
    shown = capsys.readouterr().out
    assert "pooling mean, not normalised" in shown and "entry hidden: tokens" in shown
    assert "prefill in chunks" in shown
    hearth("diff", path, archive(scheme, "last"))
    assert "embedding.pooling" in capsys.readouterr().out


def test_compiling_again_gives_the_same_bytes(tmp_path: Path) -> None:
    record = read_provenance(open_archive(archive()).section(sections.PROVENANCE), "here")
    recompile(source(), record, tmp_path / "again.har", 1, None)
    assert (tmp_path / "again.har").read_bytes() == archive().read_bytes()


def test_verify_finds_other_vectors() -> None:
    opened = open_archive(archive())
    golden = loads(Golden, opened.section(sections.GOLDEN), sections.GOLDEN, "here")
    assert golden.vectors and not list(replay(opened, golden, 1, "portable"))
    first = golden.vectors[0]
    spoilt = replace(golden, vectors=(replace(first, hidden=replace(first.hidden, sha256="0")),))
    (problem,) = replay(opened, spoilt, 1, "portable")
    assert "the hidden of a text" in problem


def test_parts_that_do_not_agree_are_refused() -> None:
    here, plain = parts(archive()), parts(archive("f32", None))
    embedding = here.manifest.embedding
    assert embedding is not None
    bad = [
        replace(here, manifest=replace(here.manifest, embedding=None)),
        replace(plain, manifest=replace(plain.manifest, embedding=embedding)),
        replace(
            here, manifest=replace(here.manifest, embedding=replace(embedding, pooling="none"))
        ),
        replace(here, manifest=replace(here.manifest, embedding=replace(embedding, columns=23))),
    ]
    check_consistency(here)
    for each in bad:
        with pytest.raises(ArchiveError) as caught:
            check_consistency(each)
        assert caught.value.code == "archive.inconsistent"
