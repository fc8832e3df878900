"""LangChain's ChatOpenAI and OpenAIEmbeddings."""

from __future__ import annotations

from typing import Any

import pytest
from support.serve import KEY

langchain = pytest.importorskip("langchain_openai", reason="pip install hearth[clients]")


@pytest.fixture(scope="module")
def chat(base: str) -> Any:

    return langchain.ChatOpenAI(
        base_url=base, api_key=KEY, model="tales", max_tokens=20, temperature=0, max_retries=0
    )


def test_invoke_and_stream_agree(chat: Any) -> None:
    whole = chat.invoke("Once upon a time")
    assert whole.content and whole.usage_metadata["output_tokens"] == 20
    assert whole.response_metadata["finish_reason"] == "length"
    chunks = list(chat.stream("Once upon a time"))
    assert "".join(chunk.content for chunk in chunks) == whole.content


def test_batch_and_messages(chat: Any) -> None:
    messages = [("system", "Be brief."), ("human", "Once upon a time")]
    found = chat.batch([messages, "One day"])
    assert len(found) == 2 and all(each.content for each in found)


def test_tools_are_bound(chat: Any) -> None:
    from langchain_core.tools import tool

    @tool
    def count(colour: str) -> int:
        """How many there are of a colour."""
        return len(colour)

    bound = chat.bind_tools([count], tool_choice="count").bind(
        max_tokens=300, temperature=1.0, seed=3, parallel_tool_calls=False
    )
    found = bound.invoke("Once upon a time")
    if found.response_metadata["finish_reason"] != "length":
        assert [call["name"] for call in found.tool_calls] == ["count"]
        assert isinstance(found.tool_calls[0]["args"]["colour"], str)


def test_structured_output_is_parsed(chat: Any) -> None:
    pydantic = pytest.importorskip("pydantic")
    kind = pydantic.create_model(
        "Thing", count=(int, pydantic.Field(ge=1, le=9)), __doc__="A thing."
    )
    found = chat.with_structured_output(kind, method="json_schema").invoke("Once upon a time")
    assert 1 <= found.count <= 9


def test_log_probabilities(chat: Any) -> None:
    found = chat.bind(logprobs=True, top_logprobs=2).invoke("Once upon a time")
    assert len(found.response_metadata["logprobs"]["content"]) == 20


def test_an_error_is_raised(base: str) -> None:

    other = langchain.ChatOpenAI(base_url=base, api_key=KEY, model="other", max_retries=0)
    with pytest.raises(Exception, match="there is no model"):
        other.invoke("Hi")


def test_embeddings(base: str) -> None:

    found = langchain.OpenAIEmbeddings(
        base_url=base, api_key=KEY, model="words", check_embedding_ctx_length=False
    )
    assert len(found.embed_query("av bw")) == 24
    assert len(found.embed_documents(["av", "bw cx"])) == 2
