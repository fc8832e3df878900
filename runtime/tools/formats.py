"""How models write their calls: a table of formats, chosen by what the archive's chat template contains."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from hearth.runtime.tools.json_calls import JsonCalls
from hearth.runtime.tools.named_calls import NamedCalls
from hearth.runtime.tools.style import Style
from hearth.runtime.tools.xml_calls import XmlCalls
from hearth.schemas import sections

if TYPE_CHECKING:
    from hearth.runtime.model import Model
    from hearth.runtime.text.tokenizer import Tokenizer

Decode = Callable[[Sequence[int]], str]


@dataclass(frozen=True)
class ToolFormat:
    """Calls stand between `opening` and `closing`, as `style` says; without a closing they go on to the answer's end.

    A template has this format where it holds all of `holds` and none of `lacks`. `bare`: the opening may be left
    out where a JSON object begins the answer.
    """

    name: str
    holds: tuple[str, ...]
    lacks: tuple[str, ...]
    opening: str
    closing: str
    style: Style
    bare: bool = False
    parallel: bool = True

    def fits(self, template: str) -> bool:
        """Whether a chat template writes calls so."""
        has_all = all(text in template for text in self.holds)
        return has_all and not any(text in template for text in self.lacks)

    @property
    def marks(self) -> tuple[str, ...]:
        """What begins and ends calls, and what parts them within."""
        return tuple(mark for mark in (self.opening, self.closing, *self.style.marks) if mark)

    def special_marks(self, tokenizer: Tokenizer) -> dict[int, str]:
        """Marks that are special tokens of the model, which its text leaves out."""
        added = tokenizer.backend.get_added_tokens_decoder()
        return {
            id: token.content
            for id, token in added.items()
            if token.special and token.content in self.marks
        }

    def decode(self, tokenizer: Tokenizer) -> Decode:
        """Ids to text with the marks in it, where `tokenizer.decode` may leave them out."""
        marks = self.special_marks(tokenizer)
        if not marks:
            return tokenizer.decode

        def decode(ids: Sequence[int]) -> str:
            return "".join(parts(ids))

        def parts(ids: Sequence[int]) -> Iterator[str]:
            for is_mark, group in groupby(ids, marks.__contains__):
                run = list(group)
                yield "".join(marks[id] for id in run) if is_mark else tokenizer.decode(run)

        return decode


HERMES = ToolFormat(
    "hermes",  # Qwen2.5, Qwen3, Hermes 2 Pro and 3
    holds=("<tool_call>", "</tool_call>"),
    lacks=("<function=", "<arg_key>", "<tool_calls>"),
    opening="<tool_call>",
    closing="</tool_call>",
    style=JsonCalls(),
)
LLAMA3 = ToolFormat(
    "llama3",  # Llama 3.1, 3.2 and 3.3
    holds=('"parameters": ', "ipython"),
    lacks=("<function=", "<tool_call>"),
    opening="<|python_tag|>",
    closing="",
    style=JsonCalls("parameters"),
    bare=True,
    parallel=False,  # the template refuses several
)
MISTRAL = ToolFormat(
    "mistral",  # Nemo, Mistral 7B v0.3
    holds=("[TOOL_CALLS]",),
    lacks=("[ARGS]",),
    opening="[TOOL_CALLS]",
    closing="",
    style=JsonCalls(listed=True),
)
QWEN_XML = ToolFormat(
    "qwen-xml",  # Qwen3-Coder
    holds=("<tool_call>", "<function=", "<parameter="),
    lacks=("<tool_calls>",),
    opening="<tool_call>",
    closing="</tool_call>",
    style=XmlCalls(),
)
MISTRAL_NAMED = ToolFormat(
    "mistral-named",  # Mistral Small 3.2, Devstral, Magistral
    holds=("[TOOL_CALLS]", "[ARGS]"),
    lacks=(),
    opening="[TOOL_CALLS]",
    closing="",
    style=NamedCalls(),
)
FORMATS: tuple[ToolFormat, ...] = (HERMES, LLAMA3, MISTRAL, QWEN_XML, MISTRAL_NAMED)


def format_of(template: str) -> ToolFormat | None:
    """The format of a chat template; None where it is none of the table."""
    return next((format for format in FORMATS if format.fits(template)), None)


def tool_format(model: Model) -> ToolFormat | None:
    """The format of a model's archive; None where it has no chat template, or one without a known format."""
    template = model.archive.text(sections.CHAT_TEMPLATE)
    return None if template is None else format_of(template)
