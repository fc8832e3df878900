"""A prompt's keys and values, computed: when an archive is made, and again when it is verified."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hearth.runtime import native
from hearth.runtime.contexts.kv_strips import layout_hash, pack
from hearth.runtime.model import Model
from hearth.runtime.session import check_room
from hearth.runtime.text.chat_template import ChatTemplate
from hearth.runtime.verify.texts import clock
from hearth.schemas import sections
from hearth.schemas.prompt import Prompt

FOLLOWING = (
    "a",
    "The",
    "\n1",
)  # what may come after a prompt: tokens that all of these leave alone are its own


@dataclass(frozen=True)
class Computed:
    """A prompt's two sections."""

    prompt: Prompt
    packed: NDArray[np.uint8]


def compute(model: Model, text: str) -> Computed:
    """Read a system message (a text, where there is no chat template) and keep its keys and values.

    InputError `input.context_full`, and what the template refuses.
    """
    ids = prompt_ids(model, text)
    check_room(0, len(ids) + 1, model.context)
    prompt = Prompt(text, ids, layout_hash(model.kv_layout), None if is_exact(model) else model.isa)
    return Computed(prompt, computed(model, ids))


def prompt_ids(model: Model, text: str) -> tuple[int, ...]:
    """The ids that prompts share which begin with this system message. The template's clock stands still."""
    source = model.archive.text(sections.CHAT_TEMPLATE)
    tokenizer = model.tokenizer
    if source is None:
        texts = [tokenizer.encode(text + more) for more in FOLLOWING]
    else:
        template = ChatTemplate(source, tokenizer.special, clock)
        system: dict[str, Any] = {"role": "system", "content": text}
        chats = [template.render([system, {"role": "user", "content": more}]) for more in FOLLOWING]
        texts = [tokenizer.encode(chat, add_special_tokens=False) for chat in chats]
    shared = zip(*texts, strict=False)
    differ = (index for index, tokens in enumerate(shared) if len(set(tokens)) > 1)
    return tuple(texts[0][: next(differ, min(map(len, texts)))])


def computed(model: Model, ids: tuple[int, ...]) -> NDArray[np.uint8]:
    """The packed keys and values of ids, read in order by the model's kernels and nothing else."""
    state, tokens = model.new_state(), np.array(ids, np.int32)
    nothing = np.empty((0, model.vocab), np.float32)
    for start in range(0, len(ids), model.chunk):
        model.run(state, "prefill", tokens[start : start + model.chunk], start, nothing)
    return pack(model.kv_layout, model.region(state), 0, len(ids))


def is_exact(model: Model) -> bool:
    """Whether every instruction set gives the same keys and values."""
    exact = {kernel.name: kernel.exact for kernel in native.kernels()}
    number = model.entry_numbers["prefill"]
    return all(exact[name] for name in model.engine.kernel_names(number))
