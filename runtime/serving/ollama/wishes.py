"""Ollama's options in the terms of this runtime: what decides a text, and how much of the context it may use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hearth.runtime.generation.defaults import Asked
from hearth.runtime.generation.writing import Full, Request
from hearth.runtime.serving.full import at_the_end
from hearth.runtime.serving.ollama.options import REPEAT_LAST_N, Options
from hearth.runtime.serving.ollama.requests import Common

if TYPE_CHECKING:
    from hearth.runtime.model import Model


@dataclass(frozen=True)
class Room:
    """The positions that a request may use: `num_ctx`, and no more than the archive was compiled for."""

    context: int
    answer: int  # those that a prompt which has to be cut leaves free

    @classmethod
    def of(cls, options: Options, compiled: int) -> Room:
        """A quarter for the answer, or `num_predict` where that is less."""
        context = min(options.num_ctx or compiled, compiled)
        wanted = _positive(options.num_predict) or context
        return cls(context, max(1, min(wanted, context // 4)))

    @property
    def prompt(self) -> int:
        """Tokens that are left of a prompt which has to be cut."""
        return max(1, self.context - self.answer)

    def holds(self, count: int) -> bool:
        """Whether so many tokens are read whole, with room for one of an answer."""
        return count < self.context or count == 1

    def cut(self, ids: Sequence[int], num_keep: int) -> list[int]:
        """Of ids too many the first `num_keep` and the last ones, in all as many as there is room for."""
        if self.holds(len(ids)):
            return list(ids)
        keep = min(max(num_keep, 0), self.prompt - 1)
        return [*ids[:keep], *ids[len(ids) - (self.prompt - keep) :]]


def request_of(model: Model, common: Common, used: int, usual: Full = Full.STOP) -> Request:
    """What `Model.generate` would be asked for, after a prompt of `used` tokens; errors as there.

    At the end of the context it does what `shift` says, else as `usual`.
    """
    options = common.options
    request = replace(model.request(**asked_of(options)), logprobs=common.logprobs)
    if options.num_predict is not None and options.num_predict <= 0:
        request = replace(request, max_tokens=None)
    request = at_the_end(request, _full(common.shift, usual), model.context)
    if request.full is Full.SLIDE:
        return request
    if options.num_ctx is None or options.num_ctx >= model.context:
        return request
    left = max(1, options.num_ctx - used)
    return replace(request, max_tokens=min(request.max_tokens or left, left))


def _full(shift: bool | None, usual: Full) -> Full:
    if shift is None:
        return usual
    return Full.SLIDE if shift else Full.STOP


def asked_of(options: Options) -> Asked:
    """A seed below 0 is another one each time; a window of 0 tokens is no penalty, one below 0 is all of them."""
    window = options.repeat_last_n
    asked = Asked(
        max_tokens=_positive(options.num_predict),
        stop=options.stop,
        seed=None if options.seed is None or options.seed < 0 else options.seed,
        temperature=options.temperature,
        top_k=None if options.top_k is None else max(0, options.top_k),
        top_p=options.top_p,
        min_p=options.min_p,
        typical_p=options.typical_p,
        repetition_penalty=options.repeat_penalty,
        presence_penalty=options.presence_penalty,
        frequency_penalty=options.frequency_penalty,
    )
    if window == 0:
        return asked | Asked(repetition_penalty=1.0, presence_penalty=0.0, frequency_penalty=0.0)
    penalties = (options.repeat_penalty, options.presence_penalty, options.frequency_penalty)
    if window is None and any(penalty is not None for penalty in penalties):
        window = REPEAT_LAST_N
    return asked if window is None else asked | Asked(penalty_window=max(0, window))


def _positive(count: int | None) -> int | None:
    """Ollama's -1 and -2 (and 0) are no limit."""
    return count if count is not None and count > 0 else None
