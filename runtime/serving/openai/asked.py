"""What the endpoints are asked for, as they were read: None is left to the archive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hearth.runtime.adapters import AdapterUse
from hearth.runtime.generation.writing import Full
from hearth.runtime.grammar import GrammarWish
from hearth.runtime.serving.openai.messages import Message

Ids = tuple[int, ...]


@dataclass(frozen=True)
class StreamOptions:
    """`include_usage`: a last chunk tells what was used."""

    include_usage: bool = False


@dataclass(frozen=True)
class ToolChoice:
    """Which tools must or may be called: `mode` is none, auto or required; `name` is the one that must."""

    mode: str
    name: str | None = None


@dataclass(frozen=True)
class Speech:
    """What chat completions and completions have in common. `form` is what answers must look like."""

    model: str
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    typical_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    penalty_window: int | None = None
    logit_bias: tuple[tuple[int, float], ...] = ()
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: Ids = ()
    ignore_eos: bool = False
    context_full: Full | None = None
    n: int = 1
    stream: bool = False
    stream_options: StreamOptions | None = None
    adapter: AdapterUse | None = None
    form: GrammarWish | None = None


@dataclass(frozen=True)
class ChatRequest(Speech):
    """POST /v1/chat/completions"""

    messages: tuple[Message, ...] = ()
    max_completion_tokens: int | None = None
    logprobs: bool = False
    top_logprobs: int | None = None
    tools: tuple[Mapping[str, Any], ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool = True
    enable_thinking: bool | None = None
    chat_template_kwargs: Mapping[str, Any] | None = None

    @property
    def limit(self) -> int | None:
        """Tokens of an answer at most."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    @property
    def variables(self) -> Mapping[str, Any]:
        """Further names that the chat template reads."""
        thinking = {} if self.enable_thinking is None else {"enable_thinking": self.enable_thinking}
        return {**thinking, **(self.chat_template_kwargs or {})}


@dataclass(frozen=True)
class ResponseRequest(ChatRequest):
    """POST /v1/responses: a chat, and what its answer repeats of the request."""

    repeated: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class CompletionRequest(Speech):
    """POST /v1/completions; `prompt` are texts or ids, one or several."""

    prompt: tuple[str | Ids, ...] = ()
    echo: bool = False
    logprobs: int | None = None
    best_of: int | None = None

    @property
    def scored(self) -> bool:
        """Whether the log probabilities of prompts are asked for."""
        return self.echo and self.logprobs is not None


@dataclass(frozen=True)
class EmbeddingRequest:
    """POST /v1/embeddings"""

    model: str
    input: tuple[str | Ids, ...] = ()
    encoding_format: str = "float"
    dimensions: int | None = None
    prompt_name: str | None = None
