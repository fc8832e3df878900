"""The `ollama` package, sync and async, against `hearth serve`: each endpoint and field, streaming and not, errors."""

from __future__ import annotations

import asyncio
import json
import math
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from support.serve import KEY, Served

ollama = pytest.importorskip("ollama", reason="the package ollama is not installed")
from hearth.runtime import load, load_encoder  # noqa: E402
from hearth.runtime.adapters import AdapterUse  # noqa: E402
from hearth.runtime.serving.ollama.prompts import chat_text, encode_text  # noqa: E402

PROMPT = "Tell me a story about a fire."
ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "adds",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
            "additionalProperties": False,
        },
    },
}
USER = {"role": "user", "content": PROMPT}
LONG = {"type": "string", "minLength": 100_000}
SHOWN = {"Authorization": f"Bearer {KEY}"}


@pytest.fixture(scope="module")
def url(served: Served) -> str:
    return served.url


@pytest.fixture(scope="module")
def client(url: str) -> Any:
    return ollama.Client(host=url, headers=SHOWN)


def alone(files: Any, prompt: str = PROMPT, **asked: Any) -> str:
    """The answer of the model itself."""
    model = load(files.decoder, threads=1)
    ids = encode_text(model, chat_text(model, [{"role": "user", "content": prompt}], (), None))
    return "".join(model.generate(ids, **asked))


def options(**given: Any) -> dict[str, Any]:
    return {"temperature": 0, "num_predict": 24, **given}


# models


def test_list(client: Any, files: Any) -> None:
    found = {model.model: model for model in client.list().models}
    assert set(found) == {"tales:latest", "tales:loud", "words:latest"}
    tales = found["tales:latest"]
    assert tales.size == files.decoder.stat().st_size
    assert len(tales.digest) == 64 and tales.modified_at.tzinfo is not None
    assert (tales.details.format, tales.details.family) == ("har", "llama")
    assert tales.details.quantization_level == "int8"


def test_show(client: Any) -> None:
    found = client.show("tales")
    assert found.capabilities == ["completion", "tools"]
    assert "add_generation_prompt" in found.template
    assert found.modelinfo["general.architecture"] == "llama"
    assert found.modelinfo["llama.context_length"] > 0
    assert client.show("words:latest").capabilities == ["embedding"]


def test_ps_and_keep_alive(client: Any) -> None:
    client.generate("tales", keep_alive="5m")  # no prompt: loads
    (tales,) = [each for each in client.ps().models if each.model == "tales:latest"]
    left = tales.expires_at - datetime.now(UTC)
    assert timedelta(minutes=4) < left <= timedelta(minutes=5)
    client.generate("tales", keep_alive=-1)
    (tales,) = [each for each in client.ps().models if each.model == "tales:latest"]
    assert tales.expires_at.year == 9999
    ended = client.generate("tales", keep_alive=0)
    assert (ended.done, ended.done_reason, ended.response) == (True, "unload", "")
    assert "tales:latest" not in [each.model for each in client.ps().models]
    assert client.chat("tales", []).done_reason == "load"
    assert client.chat("tales", [], keep_alive="0s").done_reason == "unload"


def test_a_model_kept_for_no_time_is_unloaded_after_its_answer(client: Any) -> None:
    client.generate("tales", PROMPT, options=options(num_predict=1), keep_alive=0)
    assert "tales:latest" not in [each.model for each in client.ps().models]


def test_an_adapter_is_a_model_of_its_own(client: Any, files: Any) -> None:
    loud = next(each for each in client.list().models if each.model == "tales:loud")
    assert loud.details.parent_model == "tales"
    found = client.chat("tales:loud", [USER], options=options()).message.content
    model = load(files.decoder, threads=1)
    session = model.session(adapter=AdapterUse("loud"))
    ids = encode_text(model, chat_text(model, [USER], (), None))
    assert found == "".join(model.generate(ids, session=session, temperature=0.0, max_tokens=24))
    assert found != client.chat("tales", [USER], options=options()).message.content
    assert client.show("tales:loud").details.parent_model == "tales"


# texts


def test_generate(client: Any, files: Any) -> None:
    found = client.generate("tales", PROMPT, options=options())
    assert found.response == alone(files, temperature=0.0, max_tokens=24)
    assert (found.model, found.done, found.done_reason) == ("tales", True, "length")
    assert (found.eval_count, found.prompt_eval_count > 0) == (24, True)
    parts = found.load_duration + found.prompt_eval_duration + found.eval_duration
    assert 0 < parts <= found.total_duration < 60e9
    assert datetime.fromisoformat(found.created_at) <= datetime.now(UTC)


def test_generate_streams_the_same_text(client: Any) -> None:
    whole = client.generate("tales", PROMPT, options=options())
    pieces = list(client.generate("tales", PROMPT, options=options(), stream=True))
    assert len(pieces) > 10
    assert "".join(piece.response for piece in pieces) == whole.response
    assert [piece.done for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert (pieces[-1].context, pieces[-1].eval_count) == (whole.context, 24)
    assert pieces[0].eval_count is None and pieces[0].done_reason is None


def test_chat(client: Any, files: Any) -> None:
    found = client.chat("tales:latest", [USER], options=options())
    assert found.message.role == "assistant"
    assert found.message.content == alone(files, temperature=0.0, max_tokens=24)
    pieces = list(client.chat("tales:latest", [USER], options=options(), stream=True))
    assert "".join(piece.message.content for piece in pieces) == found.message.content
    assert (pieces[-1].done_reason, pieces[-1].eval_count) == ("length", 24)


def test_an_answer_that_ends_by_itself(client: Any) -> None:
    found = client.chat("tales", [USER], options={"temperature": 0})
    assert found.done_reason == "stop"
    assert 24 < found.eval_count < 400


def test_async(url: str, client: Any) -> None:
    async def main() -> tuple[str, str, list[str]]:
        there = ollama.AsyncClient(host=url, headers=SHOWN)
        whole = await there.chat("tales", [USER], options=options())
        stream = await there.generate("tales", PROMPT, options=options(), stream=True)
        pieces = [piece.response async for piece in stream]
        listed = [model.model for model in (await there.list()).models]
        return whole.message.content, "".join(pieces), listed

    chatted, generated, listed = asyncio.run(main())
    assert chatted == generated == client.generate("tales", PROMPT, options=options()).response
    assert len(listed) == 3


def test_context_goes_on_with_the_conversation(client: Any, files: Any) -> None:
    first = client.generate("tales", PROMPT, options=options())
    second = client.generate("tales", "And then?", context=first.context, options=options())
    assert second.context[: len(first.context)] == first.context
    assert second.prompt_eval_count > len(first.context)
    model = load(files.decoder, threads=1)
    ids = second.context[: second.prompt_eval_count]
    assert second.response == "".join(model.generate(ids, temperature=0.0, max_tokens=24))


def test_raw_and_system(client: Any, files: Any) -> None:
    raw = client.generate("tales", "Once upon a time", raw=True, options=options())
    model = load(files.decoder, threads=1)
    wanted = "".join(model.generate("Once upon a time", temperature=0.0, max_tokens=24))
    assert (raw.response, raw.context) == (wanted, None)
    told = client.generate("tales", PROMPT, system="Talk of rain.", options=options())
    plain = client.generate("tales", PROMPT, options=options())
    assert told.prompt_eval_count > plain.prompt_eval_count


def test_seed(client: Any, files: Any) -> None:
    drawn = [
        client.generate("tales", PROMPT, options=options(temperature=1.0, seed=seed)).response
        for seed in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0] == alone(files, temperature=1.0, seed=1, max_tokens=24)


@pytest.mark.parametrize(
    ("given", "same"),
    [
        ({"top_k": 5}, {"top_k": 5}),
        ({"top_p": 0.5}, {"top_p": 0.5}),
        ({"min_p": 0.2}, {"min_p": 0.2}),
        ({"typical_p": 0.5}, {"typical_p": 0.5}),
        (
            {"repeat_penalty": 1.5, "repeat_last_n": 8},
            {"repetition_penalty": 1.5, "penalty_window": 8},
        ),
        ({"presence_penalty": 1.0, "repeat_last_n": -1}, {"presence_penalty": 1.0}),
        ({"frequency_penalty": 1.0, "repeat_last_n": -1}, {"frequency_penalty": 1.0}),
        ({"mirostat": 2, "num_gpu": 1, "numa": False, "num_thread": 4, "tfs_z": 0.5}, {}),
    ],
)
def test_options(client: Any, files: Any, given: Any, same: Any) -> None:
    asked = options(temperature=1.0, seed=3, **given)
    wanted = alone(files, temperature=1.0, seed=3, max_tokens=24, **same)
    assert client.generate("tales", PROMPT, options=asked).response == wanted


def test_stop(client: Any) -> None:
    whole = client.generate("tales", PROMPT, options=options()).response
    end = whole[10:14]
    found = client.generate("tales", PROMPT, options=options(stop=[end, "never"]))
    assert found.response == whole[: whole.index(end)]
    assert found.done_reason == "stop"


def test_num_ctx_and_num_keep(client: Any) -> None:
    found = client.generate("tales", PROMPT, options=options(num_ctx=24, num_predict=-1))
    assert found.prompt_eval_count + found.eval_count <= 25
    assert found.done_reason == "length"
    long = client.generate("tales", "fire " * 400, options=options(num_ctx=64, num_keep=2))
    assert long.prompt_eval_count == 48
    client.generate("tales", PROMPT, options=options(num_ctx=1 << 20, num_predict=1))


def test_a_context_that_slides(url: str) -> None:
    there = ollama.Client(host=url, headers=SHOWN)
    body = {"model": "tales", "prompt": "Once", "raw": True, "stream": False, "shift": True}
    body |= {"options": {"num_predict": 700, "temperature": 1.0, "seed": 1}, "format": LONG}
    found = there._request_raw("POST", "/api/generate", json=body).json()
    assert found["eval_count"] == 700  # of a context of 512


def test_a_long_prompt_may_be_refused(url: str) -> None:
    body = {"model": "tales", "prompt": "fire " * 1000, "truncate": False}
    with pytest.raises(ollama.ResponseError, match=r"input\.context_full") as caught:
        ollama.Client(host=url, headers=SHOWN)._request_raw("POST", "/api/generate", json=body)
    assert caught.value.status_code == 400


def test_format(client: Any) -> None:
    wanted = ADD["function"]["parameters"]
    for stream in (False, True):
        asked = {"format": wanted, "options": {"temperature": 1.0, "seed": 4}, "stream": stream}
        found = client.generate("tales", PROMPT, **asked)
        text = "".join(each.response for each in found) if stream else found.response
        assert set(json.loads(text)) >= {"a", "b"}
    found = client.chat("tales", [USER], format=wanted, options={"temperature": 1.0, "seed": 5})
    assert all(isinstance(value, int) for value in json.loads(found.message.content).values())
    text = client.generate("tales", PROMPT, format="json", options=options(num_predict=40)).response
    assert text.lstrip().startswith("{")


def test_logprobs(client: Any) -> None:
    asked = {"options": options(num_predict=5), "logprobs": True, "top_logprobs": 2}
    found = client.generate("tales", PROMPT, **asked)
    assert len(found.logprobs) == 5
    for each in found.logprobs:
        assert len(each.top_logprobs) == 2 and each.logprob == each.top_logprobs[0].logprob <= 0
        assert math.exp(each.logprob) + math.exp(each.top_logprobs[1].logprob) <= 1 + 1e-6
    assert "".join(each.token for each in found.logprobs) == found.response
    pieces = list(client.chat("tales", [USER], stream=True, **asked))
    assert sum(len(piece.logprobs or ()) for piece in pieces) == 5


# tools


def test_tools(client: Any, files: Any) -> None:
    """The demo's model calls nothing; what a call looks like is tested in test_answers.py."""
    with_tools = client.chat("tales", [USER], tools=[ADD], options=options())
    without = client.chat("tales", [USER], options=options())
    assert with_tools.prompt_eval_count > without.prompt_eval_count
    assert with_tools.message.tool_calls is None
    call = {"function": {"name": "add", "arguments": {"a": 1, "b": 2}}}
    history = [
        USER,
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "3", "tool_name": "add"},
    ]
    longer = client.chat("tales", history, tools=[ADD], options=options())
    assert longer.prompt_eval_count > with_tools.prompt_eval_count


# vectors


def test_embed(client: Any, files: Any) -> None:
    encoder = load_encoder(files.encoder, threads=1)
    texts = ["one fire", "two"]
    found = client.embed("words", texts)
    for mine, theirs in zip(encoder.embed(texts), found.embeddings, strict=True):
        assert theirs == pytest.approx((mine / math.sqrt((mine**2).sum())).tolist(), abs=1e-6)
    assert found.prompt_eval_count == sum(len(encoder.encode(text).ids) for text in texts)
    assert found.total_duration > 0
    assert client.embed("words", texts[0]).embeddings == [found.embeddings[0]]
    assert client.embed("words", []).embeddings == []
    short = client.embed("words", texts[0], dimensions=4).embeddings[0]
    assert len(short) == 4 and math.hypot(*short) == pytest.approx(1, abs=1e-5)


def test_embed_cuts_or_refuses_what_is_too_long(client: Any) -> None:
    long = "one " * 2000
    assert len(client.embed("words", long).embeddings) == 1
    with pytest.raises(ollama.ResponseError, match=r"input\.context_full") as caught:
        client.embed("words", long, truncate=False)
    assert caught.value.status_code == 400


def test_embeddings(client: Any, files: Any) -> None:
    encoder = load_encoder(files.encoder, threads=1)
    found = client.embeddings("words", "one fire").embedding
    assert found == pytest.approx(encoder.embed("one fire")[0].tolist(), abs=1e-6)


# errors


@pytest.mark.parametrize(
    ("call", "status", "text"),
    [
        (lambda c: c.generate("other", PROMPT), 404, "other"),
        (lambda c: c.chat("other", [USER]), 404, "other"),
        (lambda c: c.show("other"), 404, "other"),
        (lambda c: c.embed("other", "a"), 404, "other"),
        (lambda c: c.generate("tales:french", PROMPT), 404, "tales:french"),
        (lambda c: c.embed("tales", "a"), 400, "decoder"),
        (lambda c: c.generate("words", "a"), 400, "encoder"),
        (lambda c: c.generate("tales", PROMPT, suffix="end"), 400, "suffix"),
        (lambda c: c.generate("tales", PROMPT, template="{{ x }}"), 400, "template"),
        (lambda c: c.generate("tales", PROMPT, images=[b"png"]), 400, "images"),
        (lambda c: c.generate("tales", PROMPT, think=True), 400, "think"),
        (lambda c: c.generate("tales", PROMPT, options={"top_p": 7}), 400, "top_p"),
        (lambda c: c.generate("tales", PROMPT, options={"temperature": -1}), 400, "temperature"),
        (lambda c: c.generate("tales", PROMPT, options={"seed": "x"}), 400, "options.seed"),
        (lambda c: c.generate("tales", PROMPT, keep_alive="soon"), 400, "keep_alive"),
        (lambda c: c.chat("tales", [{"role": "user", "content": "a", "images": [b"p"]}]), 400, "images"),
        (lambda c: c.generate("tales", PROMPT, format={"type": "nothing"}), 400, "schema"),
        (lambda c: c.generate("tales", PROMPT, context=[1 << 30]), 400, "token id"),
        (lambda c: c.embed("words", "a", dimensions=1 << 20), 400, "dimensions"),
        (lambda c: c.create("new", from_="tales"), 501, "registry"),
        (lambda c: c.push("tales"), 501, "registry"),
        (lambda c: c.push("other"), 404, "other"),
        (lambda c: c.copy("tales", "new"), 501, "registry"),
        (lambda c: c.delete("tales"), 501, "registry"),
        (lambda c: c.delete("other"), 404, "other"),
        (lambda c: c.pull("other"), 404, "other"),
        (lambda c: c.create_blob(__file__), 501, "registry"),
    ],
)  # fmt: skip
def test_errors(client: Any, call: Any, status: int, text: str) -> None:
    with pytest.raises(ollama.ResponseError) as caught:
        call(client)
    assert caught.value.status_code == status
    assert text in caught.value.error


def test_errors_of_streams_come_with_their_status(client: Any) -> None:
    with pytest.raises(ollama.ResponseError) as caught:
        list(client.generate("other", PROMPT, stream=True))
    assert caught.value.status_code == 404


def test_a_model_that_is_served_is_pulled_already(client: Any) -> None:
    assert client.pull("tales").status == "success"
    assert [each.status for each in client.pull("tales", stream=True)][-1] == "success"


def test_a_key(url: str) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        with pytest.raises(ollama.ResponseError, match="key") as caught:
            ollama.Client(host=url, headers=headers).list()
        assert caught.value.status_code == 401


def test_times_grow_along_a_stream(client: Any) -> None:
    pieces = client.generate("tales", PROMPT, options=options(), stream=True)
    times = [datetime.fromisoformat(piece.created_at) for piece in pieces]
    assert all(before <= after for before, after in pairwise(times))
