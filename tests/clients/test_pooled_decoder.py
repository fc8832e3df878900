"""A decoder with a pooling answers chats and makes vectors: OpenAI's client, and both of Ollama's endpoints."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from support.encoders import compile_encoder
from support.serve import chat_checkpoint, serving

from hearth.runtime import Model, load

openai = pytest.importorskip("openai", reason="pip install hearth[clients]")
httpx = pytest.importorskip("httpx", reason="pip install hearth[clients]")
TEXTS = ["Once upon a time", "The cat sat down.", "a " * 2000]


@dataclass(frozen=True)
class Pooled:
    """A server's URL, and the archive it serves as `tales`."""

    url: str
    model: Model


@pytest.fixture(scope="module")
def pooled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pooled]:
    folder = tmp_path_factory.mktemp("pooled")
    path: Path = compile_encoder(
        chat_checkpoint(folder / "chat"), folder / "tales.har",
        weights="int8", activations="dynamic", pooling="mean",
    )  # fmt: skip
    with serving([f"tales={path}"], "--threads", "1") as found:
        yield Pooled(found.url, load(path, threads=1))
        assert not [line for line in found.log if "this is a bug" in line]


def test_vectors_and_answers_of_one_model(pooled: Pooled) -> None:
    client = openai.OpenAI(base_url=f"{pooled.url}/v1", api_key="none", max_retries=0)
    found = client.embeddings.create(model="tales", input=TEXTS)
    wanted = pooled.model.embed(TEXTS)
    for each, vector in zip(found.data, wanted, strict=True):
        np.testing.assert_array_equal(np.asarray(each.embedding, np.float32), vector)
    read = [pooled.model.vectors().encode(text).ids for text in TEXTS]
    assert found.usage.prompt_tokens == sum(map(len, read))
    said = client.chat.completions.create(
        model="tales", messages=[{"role": "user", "content": "hi"}], max_tokens=3
    )
    assert said.choices[0].message.content
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model="tales", input=[[1] * 4000])
    assert caught.value.param == "input"


def test_ollama(pooled: Pooled) -> None:
    def post(path: str, body: object) -> dict[str, object]:
        answer = httpx.post(f"{pooled.url}{path}", json=body, timeout=60)
        assert answer.status_code == 200, answer.text
        found: dict[str, object] = answer.json()
        return found

    wanted = pooled.model.embed(TEXTS[:2])
    found = np.asarray(post("/api/embed", {"model": "tales", "input": TEXTS[:2]})["embeddings"])
    lengths = np.linalg.norm(wanted, axis=1, keepdims=True)
    np.testing.assert_allclose(found, wanted / lengths, rtol=1e-5, atol=1e-6)
    one = post("/api/embeddings", {"model": "tales", "prompt": TEXTS[0]})["embedding"]
    np.testing.assert_array_equal(np.asarray(one, np.float32), wanted[0])
    shown = post("/api/show", {"model": "tales"})["capabilities"]
    assert isinstance(shown, list) and {"completion", "embedding"} <= set(shown)


def test_the_description_names_it_for_both(pooled: Pooled) -> None:
    schemas = httpx.get(f"{pooled.url}/openapi.json").json()["components"]["schemas"]
    for name in ("EmbeddingRequest", "ChatRequest"):
        assert schemas[name]["properties"]["model"]["enum"] == ["tales"]
