"""From a request to the jobs of a scheduler: prompts by the chat template, wishes over the archive's defaults."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hearth.runtime.generation.defaults import Wishes
from hearth.runtime.generation.writing import Full, Request
from hearth.runtime.sampling import completion_seed
from hearth.runtime.serving.full import at_the_end
from hearth.runtime.serving.jobs import Job
from hearth.runtime.serving.lengths import check_length
from hearth.runtime.serving.openai.asked import ChatRequest, CompletionRequest, Speech
from hearth.runtime.serving.openai.fields import conflict
from hearth.runtime.serving.openai.saying import Echo, Saying
from hearth.schemas.errors import InputError

if TYPE_CHECKING:
    from hearth.runtime.grammar import GrammarWish
    from hearth.runtime.model import Model
    from hearth.runtime.serving.held import Held
    from hearth.runtime.tools import CallReader, ToolFormat

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
    prompt = _chat_prompt(held, request, format)
    logprobs = (request.top_logprobs or 0) if request.logprobs else None
    wishes = replace(_wishes(model, request), max_tokens=request.limit, logprobs=logprobs)

    def saying(number: int, stop_ids: frozenset[int]) -> Saying:
        return Saying(request.logprobs, stop_ids, _parser(request, format))

    wish = _chat_form(model, request, format)
    return _work(held, request, [prompt], wishes, wish, request.n, saying, format)


def completion_work(held: Held, request: CompletionRequest) -> Work:
    """Several prompts, n (or best_of) answers to each."""
    model = held.model
    for prompt in request.prompt:
        if isinstance(prompt, str):
            _check_length(held, request, prompt)
    prompts = [tuple(model.encode(prompt)) for prompt in request.prompt]
    count = request.best_of or request.n
    ranked = count > request.n
    limit = USUAL_LENGTH if request.max_tokens is None else request.max_tokens
    wishes = replace(
        _wishes(model, request),
        max_tokens=max(limit, 1),
        logprobs=0 if ranked and request.logprobs is None else request.logprobs,
    )
    wanted = ranked or request.logprobs is not None

    def saying(number: int, stop_ids: frozenset[int]) -> Saying:
        echo = _echo(model, request.prompt[number // count]) if request.echo else None
        return Saying(wanted, echo=echo)

    made = _work(held, request, prompts, wishes, request.form, count, saying)
    scores = request.logprobs if request.scored else None
    jobs = tuple(replace(job, prompt_logprobs=scores, write=limit > 0) for job in made.jobs)
    return replace(made, jobs=jobs)


def _echo(model: Model, prompt: str | Sequence[int]) -> Echo:
    decode = model.tokenizer.decode
    return Echo(prompt if isinstance(prompt, str) else decode(prompt), decode)


def _check_length(held: Held, request: Speech, text: str) -> None:
    """A text too long by far is refused; one that is to slide is cut."""
    if _full(held, request) is not Full.SLIDE:
        check_length(held.model, text)


def _full(held: Held, request: Speech) -> Full:
    return request.context_full or held.settings.full


def _work(
    held: Held,
    request: Speech,
    prompts: Sequence[tuple[int, ...]],
    wishes: Wishes,
    wish: GrammarWish | None,
    per_prompt: int,
    saying: Callable[[int, frozenset[int]], Saying],
    format: ToolFormat | None = None,
) -> Work:
    _check_places(held, len(prompts) * per_prompt)
    model = held.model
    asked = model.defaults.request(wishes, secrets.randbits(64))
    asked = replace(asked, stop_ids=asked.stop_ids | set(request.stop_token_ids))
    wanted = at_the_end(asked, _full(held, request), model.context)
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
    return Work(jobs, tuple(saying(n, wanted.stop_ids) for n in range(len(jobs))), per_prompt)


def _check_places(held: Held, answers: int) -> None:
    """More answers than may be computed and wait together would be asked for again and again."""
    places = held.settings.rows + held.settings.queue
    if answers > places:
        conflict("n", f"{answers} answers are asked for, and the server has room for {places}")


def _numbered(request: Request, index: int) -> Request:
    """The answer `index` of several draws with a seed of its own."""
    seed = completion_seed(request.sampling.seed, index)
    return replace(request, sampling=replace(request.sampling, seed=seed))


def _wishes(model: Model, request: Speech) -> Wishes:
    """Who says nothing of the temperature gets the archive's, else 1, as OpenAI documents it."""
    temperature = model.defaults.temperature if request.temperature is None else request.temperature
    return Wishes(
        temperature=1.0 if temperature is None else temperature,
        top_k=None if request.top_k is None else max(0, request.top_k),
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


def _chat_prompt(held: Held, request: ChatRequest, format: ToolFormat | None) -> tuple[int, ...]:
    from hearth.runtime.tools import template_messages

    model = held.model
    tools = request.tools if format is not None and request.tools else None
    text = model.chat_template.render(
        template_messages(request.messages), tools=tools, variables=request.variables
    )
    _check_length(held, request, text)
    return tuple(model.tokenizer.encode(text, add_special_tokens=False))


def _parser(request: ChatRequest, format: ToolFormat | None) -> CallReader | None:
    """Calls are given as they are written where nothing but the answer's length can cut one short."""
    from hearth.runtime.tools import ToolParser, call_stream, read_tools

    if format is None:
        return None
    tools = read_tools(request.tools)
    whole = not _must_call(request) or request.stop or request.stop_token_ids
    return (None if whole else call_stream(format, tools)) or ToolParser(format, tools)


def _must_call(request: ChatRequest) -> bool:
    return request.tool_choice is not None and request.tool_choice.mode == "required"


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
            expected="one of docs/constrained.md (Hermes' and Qwen's, Llama 3's, Mistral's)",
            remedy="ask without tools, or for JSON with response_format",
        )
    return format


def _chat_form(model: Model, request: ChatRequest, format: ToolFormat | None) -> GrammarWish | None:
    """What the answer must look like: a call that is required, or the form asked for."""
    choice = request.tool_choice
    if format is not None and choice is not None and _must_call(request):
        from hearth.runtime.tools import call_wish, read_tools

        tools = [tool for tool in read_tools(request.tools) if choice.name in (None, tool.name)]
        parallel = request.parallel_tool_calls and choice.name is None
        special = format.special_marks(model.tokenizer)
        return call_wish(format, tools, special, parallel=parallel)
    return request.form
