"""The objects that Ollama's endpoints answer with, and the facts they tell of a model."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

from hearth.runtime.serving.ollama.facts import Facts, latest, rounded
from hearth.runtime.serving.ollama.responses import (
    End,
    Form,
    Said,
    Timing,
    logprob,
    moment,
    tool_call,
)
from hearth.schemas.manifest import Dims, Manifest, ModelKind, SchemeNames

TIMING = Timing(2.5, 0.25, 7, 0.5, 30, 1.5)


def test_a_piece_and_the_end_of_a_text() -> None:
    form = Form("m", chat=False)
    piece = form.piece(Said("Once"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", piece.pop("created_at"))
    assert piece == {"model": "m", "response": "Once", "done": False}
    end = form.end(Said(), End("stop", TIMING, (1, 2)))
    del end["created_at"]
    assert end == {
        "model": "m",
        "response": "",
        "done": True,
        "done_reason": "stop",
        "context": [1, 2],
        "total_duration": 2_500_000_000,
        "load_duration": 250_000_000,
        "prompt_eval_count": 7,
        "prompt_eval_duration": 500_000_000,
        "eval_count": 30,
        "eval_duration": 1_500_000_000,
    }


def test_a_chat_answers_with_a_message_and_gives_no_context() -> None:
    end = Form("m", chat=True).end(
        Said("", (tool_call(0, "add", {"a": 1}),)), End("stop", TIMING, (1, 2))
    )
    assert end["message"] == {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"function": {"index": 0, "name": "add", "arguments": {"a": 1}}}],
    }
    assert "context" not in end


def test_probabilities_carry_the_bytes_of_a_token() -> None:
    assert logprob("é".encode(), -0.5, [(b"a", -0.5)]) == {
        "token": "é",
        "logprob": -0.5,
        "bytes": [0xC3, 0xA9],
        "top_logprobs": [{"token": "a", "logprob": -0.5, "bytes": [97]}],
    }


def test_a_text_of_one_token_has_a_speed() -> None:
    form = Timing(1.0, 0.0, 7, 0.5, 1, 0.0).form()
    assert (form["load_duration"], form["eval_count"], form["eval_duration"]) == (0, 1, 1)


def test_moments_are_universal_time() -> None:
    there = datetime(2026, 11, 21, 15, 0, tzinfo=timezone(timedelta(hours=2)))
    assert moment(there) == "2026-11-21T13:00:00.000000Z"


def test_names_have_a_tag_and_sizes_a_letter() -> None:
    assert (latest("m"), latest("m:french")) == ("m:latest", "m:french")
    assert [rounded(n) for n in (42, 260_000, 3_150_000, 1_543_714_304)] == [
        "42",
        "260.00K",
        "3.15M",
        "1.5B",
    ]


def test_the_facts_of_a_model() -> None:
    manifest = Manifest(
        hearth="0.1.0",
        kind=ModelKind.DECODER,
        family="llama",
        source="stories",
        fingerprint="ab" * 32,
        dims=Dims(6, 192, 6, 2, 32, 512, 4096),
        embedding=None,
        context=512,
        chunk=64,
        schemes=SchemeNames("int8", "int8", "dynamic", "int8"),
        targets=("x86-64-v3",),
        entries=("prefill", "decode"),
        parameters=3_150_000,
        bos=1,
        eos=(2,),
    )
    facts = Facts(
        "m", "", manifest, 4000, datetime(2026, 1, 1, tzinfo=UTC), "cd" * 32, "{{x}}", True
    )
    line = facts.line()
    assert (line["name"], line["size"], line["digest"]) == ("m:latest", 4000, "cd" * 32)
    assert line["details"]["parameter_size"] == "3.15M"
    assert facts.running(None)["expires_at"].startswith("9999-")
    page = facts.page()
    assert (page["template"], page["capabilities"]) == ("{{x}}", ["completion", "tools"])
    assert page["model_info"]["llama.context_length"] == 512
