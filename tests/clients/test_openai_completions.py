"""The `openai` package's completions: prompts of texts and ids, echo, log probabilities, the best of several."""

from __future__ import annotations

from typing import Any

import pytest
from support.serve import KEY

openai = pytest.importorskip("openai", reason="pip install hearth[clients]")


@pytest.fixture(scope="module")
def client(base: str) -> Any:

    return openai.OpenAI(base_url=base, api_key=KEY, max_retries=0)


def complete(client: Any, prompt: Any = "Once upon a time", **fields: Any) -> Any:
    fields = {"model": "tales", "temperature": 0, "max_tokens": 6, **fields}
    return client.completions.create(prompt=prompt, **fields)


def test_a_completion_goes_on_from_the_prompt(client: Any) -> None:
    found = complete(client)
    assert found.object == "text_completion" and found.choices[0].finish_reason == "length"
    assert found.usage.completion_tokens == 6 and found.choices[0].text


def test_sixteen_tokens_are_the_usual_length(client: Any) -> None:
    found = client.completions.create(model="tales", prompt="Once upon", temperature=0)
    assert found.usage.completion_tokens == 16


def test_a_stream_says_what_the_whole_answer_says(client: Any) -> None:
    chunks = list(complete(client, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].text for chunk in chunks if chunk.choices)
    assert text == complete(client).choices[0].text
    assert chunks[-1].usage.completion_tokens == 6


def test_several_prompts_are_answered_in_order(client: Any) -> None:
    prompts = ["Once upon a time", "One day"]
    found = complete(client, prompts, n=2, temperature=1.0, seed=3)
    assert [choice.index for choice in found.choices] == [0, 1, 2, 3]
    alone = [complete(client, each, n=2, temperature=1.0, seed=3) for each in prompts]
    expected = [choice.text for each in alone for choice in each.choices]
    assert [choice.text for choice in found.choices] == expected
    assert found.usage.prompt_tokens == sum(each.usage.prompt_tokens for each in alone)


def test_prompts_may_be_token_ids(client: Any) -> None:
    one = complete(client, [0, 50, 60]).choices[0].text
    assert complete(client, [[0, 50, 60], [0, 70]]).choices[0].text == one


def test_echo_begins_with_the_prompt(client: Any) -> None:
    text = complete(client).choices[0].text
    assert complete(client, echo=True).choices[0].text == "Once upon a time" + text
    chunks = complete(client, echo=True, stream=True)
    assert "".join(chunk.choices[0].text for chunk in chunks) == "Once upon a time" + text


def test_logprobs_have_the_older_form(client: Any) -> None:
    choice = complete(client, logprobs=2).choices[0]
    assert "".join(choice.logprobs.tokens) == choice.text
    assert len(choice.logprobs.token_logprobs) == len(choice.logprobs.tokens) == 6
    assert all(2 <= len(top) <= 3 for top in choice.logprobs.top_logprobs)
    assert choice.logprobs.text_offset[0] == 0
    assert choice.logprobs.text_offset == sorted(choice.logprobs.text_offset)


def test_best_of_gives_the_most_probable(client: Any) -> None:
    fields: dict[str, Any] = {"temperature": 1.5, "seed": 1, "logprobs": 0, "max_tokens": 12}

    def mean(choice: Any) -> float:
        values = choice.logprobs.token_logprobs
        return sum(values) / len(values)

    every = complete(client, n=4, **fields).choices
    best = complete(client, n=1, best_of=4, **fields)
    assert best.choices[0].text == max(every, key=mean).text
    assert best.usage.completion_tokens > 12


def test_stop_and_forms(client: Any) -> None:
    assert complete(client, stop=[" a"], max_tokens=50).choices[0].finish_reason == "stop"
    found = complete(client, extra_body={"regex": "yes|no"}, max_tokens=20)
    assert found.choices[0].text in ("yes", "no")


def test_echo_with_logprobs_scores_the_prompt(client: Any) -> None:
    prompt = "Once upon a time"
    found = complete(client, prompt, echo=True, logprobs=2)
    text, logprobs = found.choices[0].text, found.choices[0].logprobs
    count = found.usage.prompt_tokens
    assert len(logprobs.tokens) == count + found.usage.completion_tokens
    assert logprobs.token_logprobs[0] is None and logprobs.top_logprobs[0] is None
    assert all(value <= 0 for value in logprobs.token_logprobs[1:])
    assert "".join(logprobs.tokens[1:]) == text  # the first begins the text, and is no part of it
    pairs = list(zip(logprobs.text_offset, logprobs.tokens, strict=True))
    assert all(text[start:].startswith(token) for start, token in pairs[1:])
    assert pairs[0][0] == pairs[1][0] == 0
    answer = complete(client, prompt, logprobs=2).choices[0].logprobs
    assert logprobs.token_logprobs[count:] == answer.token_logprobs
    assert [start - len(prompt) for start in logprobs.text_offset[count:]] == answer.text_offset


def test_a_prompt_is_scored_without_an_answer(client: Any) -> None:
    whole = complete(client, echo=True, logprobs=1).choices[0]
    for prompt in ("Once upon a time", ["Once upon a time", "One day"]):
        found = complete(client, prompt, echo=True, logprobs=1, max_tokens=0)
        choice = found.choices[0]
        assert (choice.text, choice.finish_reason) == ("Once upon a time", "length")
        assert found.usage.completion_tokens == 0
        assert (
            choice.logprobs.token_logprobs
            == whole.logprobs.token_logprobs[: len(choice.logprobs.tokens)]
        )
    assert complete(client, max_tokens=0).choices[0].text == ""


def test_a_stream_scores_the_prompt_too(client: Any) -> None:
    fields: dict[str, Any] = {"echo": True, "logprobs": 2}
    whole = complete(client, **fields).choices[0]
    chunks = [
        chunk.choices[0] for chunk in complete(client, stream=True, **fields) if chunk.choices
    ]
    assert "".join(chunk.text for chunk in chunks) == whole.text
    for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
        parts = [getattr(chunk.logprobs, name) for chunk in chunks if chunk.logprobs]
        assert [each for part in parts for each in part] == getattr(whole.logprobs, name)


def test_a_harness_compares_endings_by_their_tokens(client: Any) -> None:
    """As lm-eval's local-completions asks and reads: ids, one token more, the last one dropped."""
    context, ending = [0, 50, 60], [70, 80]
    found = complete(client, [[*context, *ending]], max_tokens=1, logprobs=1, echo=True, seed=1234)
    logprobs = found.choices[0].logprobs
    kept = slice(len(context), -1)
    assert len(logprobs.token_logprobs[kept]) == len(ending)
    for own, top in zip(logprobs.token_logprobs[kept], logprobs.top_logprobs[kept], strict=True):
        assert own in top.values() and own <= max(top.values())


def test_the_token_that_ends_a_text_is_among_its_tokens(client: Any) -> None:
    """A harness drops the last token whatever it is: an end left out would cost it one of the prompt's."""
    found = complete(client, "The end.", logit_bias={"1": 100}, max_tokens=1, logprobs=1, echo=True)
    assert len(found.choices[0].logprobs.tokens) == found.usage.prompt_tokens + 1
