"""The `openai` package's embeddings and lists of models."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest
from support.serve import KEY

from hearth.runtime import load_encoder

openai = pytest.importorskip("openai", reason="pip install hearth[clients]")
TEXTS = ["av bw", "cx", "dy ez fv"]


@pytest.fixture(scope="module")
def client(base: str) -> Any:

    return openai.OpenAI(base_url=base, api_key=KEY, max_retries=0)


@pytest.mark.parametrize("encoding", ["float", "base64", None])
def test_vectors_are_those_of_the_encoder(client: Any, files: Any, encoding: str | None) -> None:
    """Without a word on the encoding the client asks for base64 and decodes it."""
    fields = {} if encoding is None else {"encoding_format": encoding}
    found = client.embeddings.create(model="words", input=TEXTS, **fields)
    encoder = load_encoder(files.encoder, threads=1)
    for each, vector in zip(found.data, encoder.embed(TEXTS), strict=True):
        got = each.embedding
        if isinstance(got, str):
            got = np.frombuffer(base64.b64decode(got), "<f4")
        np.testing.assert_array_equal(np.asarray(got, np.float32), vector)
    assert [each.index for each in found.data] == [0, 1, 2]
    assert found.usage.prompt_tokens == sum(len(encoder.encode(text).ids) for text in TEXTS)


def test_one_text_and_ids(client: Any, files: Any) -> None:
    encoder = load_encoder(files.encoder, threads=1)
    ids = list(encoder.encode("av bw").ids)
    one, two, three = (
        client.embeddings.create(model="words", input=given, encoding_format="float")
        .data[0]
        .embedding
        for given in ("av bw", ids, [ids])
    )
    assert one == two == three


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_fewer_dimensions_are_the_first_ones_at_length_1(client: Any, encoding: str) -> None:
    """OpenAI's models are cut so; all of them are what the model gives."""

    def vector(dimensions: int) -> Any:
        found = client.embeddings.create(
            model="words", input="av", dimensions=dimensions, encoding_format=encoding
        )
        given = found.data[0].embedding
        return np.frombuffer(base64.b64decode(given), "<f4") if encoding == "base64" else given

    whole, short = np.asarray(vector(24)), np.asarray(vector(5))
    np.testing.assert_allclose(short, whole[:5] / np.linalg.norm(whole[:5]), rtol=1e-6)


@pytest.mark.parametrize(
    "fields", [{"dimensions": 25}, {"dimensions": 0}, {"input": ["av", 3]}, {"input": []}]
)
def test_bad_fields_are_named(client: Any, fields: dict[str, Any]) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(**{"model": "words", "input": "av", **fields})
    assert caught.value.param.split("[")[0] == next(iter(fields))


def test_a_decoder_makes_no_vectors(client: Any) -> None:
    with pytest.raises(openai.BadRequestError, match="makes no vectors"):
        client.embeddings.create(model="tales", input="av")


def test_models_are_listed(client: Any) -> None:
    assert [model.id for model in client.models.list()] == ["tales", "tales:loud", "words"]
    assert client.models.retrieve("tales").owned_by == "hearth"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")
