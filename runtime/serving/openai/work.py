"""From a request to the jobs of a scheduler: prompts by the chat template, wishes over the archive's defaults."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hearth.runtime.defaults import Wishes
from hearth.runtime.sampling import completion_seed
from hearth.runtime.serving.jobs import Job
from hearth.runtime.serving.lengths import check_length
from hearth.runtime.serving.openai.requests import ChatRequest, CompletionRequest, Speech
from hearth.runtime.serving.openai.saying import Saying
from hearth.runtime.writing import Request
from hearth.schemas.errors import InputError

if TYPE_CHECKING:
    from hearth.runtime.grammar import GrammarWish
    from hearth.runtime.model import Model
    from hearth.runtime.serving.service import Held
    from hearth.runtime.tools import ToolFormat

USUAL_LENGTH = 16  # of completions (not of chats), as OpenAI documents it


@dataclass(frozen=True)
class Work:
    """Jobs, and for each the answer that grows out of it; `per_prompt` jobs share a prompt."""

    jobs: tuple[Job, ...]
    sayings: tuple[Saying, ...]
    per_prompt: int


def chat_work(held: Held, request: ChatRequest) -> Work:
    """One prompt, n answers. Blocks for as long as the prompt takes to be encoded."""
    model = held.model
    format = _tool_format(model, request)
    prompt = _chat_prompt(model, request, format)
    logprobs = (request.top_logprobs or 0) if request.logprobs else None
    wishes = replace(_wishes(model, request), max_tokens=request.limit, logprobs=logprobs)
    names = [tool["function"]["name"] for tool in request.tools]

    def saying(stop_ids: frozenset[int]) -> Saying:
        from hearth.runtime.tools import ToolParser

        parser = None if format is None else ToolParser(format, names)
        return Saying(stop_ids, request.logprobs, parser)

    wish = _chat_form(model, request, format)
    return _work(held, request, [prompt], wishes, wish, request.n, saying, format)


def completion_work(held: Held, request: CompletionRequest) -> Work:
    """Several prompts, n (or best_of) answers to each."""
    model = held.model
    for prompt in request.prompt:
        if isinstance(prompt, str):
            check_length(model, prompt)
    prompts = [tuple(model.encode(prompt)) for prompt in request.prompt]
    count = request.best_of or request.n
    ranked = count > request.n
    limit = USUAL_LENGTH if request.max_tokens is None else request.max_tokens
    wishes = replace(
        _wishes(model, request),
        max_tokens=limit,
        logprobs=0 if ranked and request.logprobs is None else request.logprobs,
    )
    wanted = ranked or request.logprobs is not None
    return _work(
        held, request, prompts, wishes, request.regex or request.grammar, count,
        lambda stop_ids: Saying(stop_ids, wanted),
    )  # fmt: skip


def _work(
    held: Held,
    request: Speech,
    prompts: Sequence[tuple[int, ...]],
    wishes: Wishes,
    wish: GrammarWish | None,
    per_prompt: int,
    saying: Callable[[frozenset[int]], Saying],
    format: ToolFormat | None = None,
) -> Work:
    model = held.model
    wanted = model.defaults.request(wishes, secrets.randbits(64))
    wanted.sampling.check_vocabulary(model.vocab)
    constraint = None if wish is None else model.grammars.constraint(wish)
    decode = None if format is None else format.decode(model.tokenizer)
    jobs = tuple(
        Job(
            prompt, _numbered(wanted, index), None if constraint is None else constraint.copy(),
            request.adapter or held.adapter, decode,
        )
        for prompt in prompts
        for index in range(per_prompt)
    )  # fmt: skip
    return Work(jobs, tuple(saying(wanted.stop_ids) for _ in jobs), per_prompt)


def _numbered(request: Request, index: int) -> Request:
    """The answer `index` of several draws with a seed of its own."""
    seed = completion_seed(request.sampling.seed, index)
    return replace(request, sampling=replace(request.sampling, seed=seed))


def _wishes(model: Model, request: Speech) -> Wishes:
    """Who says nothing of the temperature gets the archive's, else 1, as OpenAI documents it."""
    temperature = model.defaults.temperature if request.temperature is None else request.temperature
    return Wishes(
        temperature=1.0 if temperature is None else temperature,
        top_k=request.top_k,
        top_p=request.top_p,
        min_p=request.min_p,
        typical_p=request.typical_p,
        repetition_penalty=request.repetition_penalty,
        presence_penalty=request.presence_penalty,
        frequency_penalty=request.frequency_penalty,
        penalty_window=request.penalty_window,
        logit_bias=request.logit_bias,
        seed=request.seed,
        stop=request.stop,
        ignore_eos=request.ignore_eos,
    )


def _chat_prompt(model: Model, request: ChatRequest, format: ToolFormat | None) -> tuple[int, ...]:
    from hearth.runtime.tools import template_messages

    tools = request.tools if format is not None and request.tools else None
    text = model.chat_template.render(
        template_messages(request.messages), tools=tools, variables=request.chat_template_kwargs
    )
    check_length(model, text)
    return tuple(model.tokenizer.encode(text, add_special_tokens=False))


def _tool_format(model: Model, request: ChatRequest) -> ToolFormat | None:
    """How the model writes calls, where tools are offered; InputError `input.tools` where its template has no tools."""
    if not request.tools or (
        request.tool_choice is not None and request.tool_choice.mode == "none"
    ):
        return None
    from hearth.runtime.tools import tool_format

    format = tool_format(model)
    if format is None:
        raise InputError(
            "input.tools",
            "this model's chat template has no form of tool calls that is known",
            expected="Hermes' (Qwen), Llama 3's or Mistral's",
            remedy="ask without tools, or for JSON with response_format",
        )
    return format


def _chat_form(model: Model, request: ChatRequest, format: ToolFormat | None) -> GrammarWish | None:
    """What the answer must look like: a call that is required, or the form asked for."""
    choice = request.tool_choice
    if format is not None and choice is not None and choice.mode == "required":
        from hearth.runtime.tools import call_wish, read_tools

        tools = [tool for tool in read_tools(request.tools) if choice.name in (None, tool.name)]
        parallel = request.parallel_tool_calls and choice.name is None
        special = format.special_marks(model.tokenizer)
        return call_wish(format, tools, special, parallel=parallel)
    return request.response_format or request.regex or request.grammar
