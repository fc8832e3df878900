"""llama-index's OpenAILike and instructor, where they are installed (they are in no extra): what they send and read."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from support.serve import KEY

USER = [{"role": "user", "content": "Once upon a time"}]


def like(base: str, **how: Any) -> Any:
    package = pytest.importorskip(
        "llama_index.llms.openai_like", reason="pip install llama-index-llms-openai-like"
    )
    how = {"max_tokens": 8, "temperature": 0.0, "max_retries": 0, **how}
    return package.OpenAILike(model="tales", api_base=base, api_key=KEY, **how)


@pytest.mark.parametrize("chat", [True, False])
def test_llama_index_says_the_same_whole_and_streamed(base: str, chat: bool) -> None:
    model = like(base, is_chat_model=chat)
    whole = model.complete("Once upon").text
    assert whole and "".join(each.delta for each in model.stream_complete("Once upon")) == whole


@pytest.mark.parametrize("mode", ["TOOLS", "TOOLS_STRICT", "JSON_SCHEMA"])
def test_instructor_gets_objects_of_its_classes(base: str, mode: str) -> None:
    """Pydantic's schemas say nothing of further keys: without `closed` a small model goes on with its own."""
    instructor = pytest.importorskip("instructor", reason="pip install instructor")
    openai, pydantic = pytest.importorskip("openai"), pytest.importorskip("pydantic")
    wanted = pydantic.create_model("Wanted", colour=(Literal["red", "blue"], ...), size=(bool, ...))
    client = instructor.from_openai(
        openai.OpenAI(base_url=base, api_key=KEY, max_retries=0),
        mode=getattr(instructor.Mode, mode),
    )
    found = client.chat.completions.create(
        model="tales", response_model=wanted, messages=USER, max_retries=0
    )
    assert found.colour in ("red", "blue") and isinstance(found.size, bool)
