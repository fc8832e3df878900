"""Random answers in the tokens of real tokenizers: what their own decoder makes of them has the form asked for."""

from __future__ import annotations

import json
import random
import re
from functools import cache

import jsonschema
import numpy as np
import pytest
from support.data import real

from hearth.runtime.grammar import Grammars, GrammarWish, JsonSchema, Regex
from hearth.runtime.text.tokenizer import Tokenizer, parse_tokenizer
from hearth.runtime.tools import FORMATS, ToolFormat, ToolParser, call_wish, read_tools

NAMES = ("checkpoints/stories3M", "tokenizers/phi-3", "tokenizers/gpt2", "tokenizers/Qwen2")
PADDING = 290  # Qwen2's own: logits that no token has
SCHEMA = {
    "type": "object",
    "properties": {
        "名前": {"type": "string", "maxLength": 6},
        "kind": {"enum": ["größe", "🙂", 'a "b"\n']},
        "n": {"type": "integer", "minimum": -10, "maximum": 99},
    },
    "required": ["名前", "kind", "n"],
    "additionalProperties": False,
}
TOOL = {"function": {"name": "größe_holen", "parameters": SCHEMA}}


@cache
def prepared(name: str) -> tuple[Tokenizer, Grammars, int]:
    place = real(name)
    tokenizer = parse_tokenizer(
        (place / "tokenizer.json").read_bytes(), (place / "tokenizer_config.json").read_bytes()
    )
    end = tokenizer.eos_id or 0
    vocab = tokenizer.backend.get_vocab_size() + PADDING
    return tokenizer, Grammars(tokenizer, vocab, (end,)), end


def answer(name: str, wish: GrammarWish, seed: int) -> str:
    """Any of the allowed tokens, until nothing more may come."""
    tokenizer, grammars, end = prepared(name)
    draw, constraint = random.Random(seed), grammars.constraint(wish)
    prompt = tokenizer.encode("a", add_special_tokens=False)
    ids: list[int] = []
    while not constraint.done:
        words = constraint.allowed()
        allowed = np.flatnonzero(np.unpackbits(words.view(np.uint8), bitorder="little"))
        assert len(allowed) and allowed[-1] < tokenizer.backend.get_vocab_size()
        ids.append(int(draw.choice(allowed)))
        constraint.accept(ids[-1])
    text = tokenizer.decode([*prompt, *(id for id in ids if id != end)])
    return text.removeprefix(tokenizer.decode(prompt))


@pytest.mark.parametrize("name", NAMES)
def test_json(name: str) -> None:
    for seed in range(10):
        text = answer(name, JsonSchema.of(SCHEMA), seed)
        jsonschema.validate(json.loads(text), SCHEMA)


@pytest.mark.parametrize("name", NAMES)
def test_expressions_beyond_ascii(name: str) -> None:
    for seed in range(10):
        expression = "[à-ÿ]{1,5} (日本|中国) [🙂🙃]{2}"
        assert re.fullmatch(expression, answer(name, Regex(expression), seed))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("format", FORMATS, ids=lambda format: format.name)
def test_tool_calls(name: str, format: ToolFormat) -> None:
    marks = format.special_marks(prepared(name)[0])
    wish = call_wish(format, read_tools([TOOL]), marks, parallel=False)
    for seed in range(5):
        parser = ToolParser(format, read_tools([TOOL]))
        pushed, flushed = parser.push(answer(name, wish, seed)), parser.flush()
        (call,) = pushed[1] + flushed[1]
        assert (pushed[0] + flushed[0], call.name) == ("", "größe_holen")
        jsonschema.validate(json.loads(call.arguments), SCHEMA)
