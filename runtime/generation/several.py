"""Several texts after one prompt, which is read once: n completions, or the best of a search with beams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from hearth.runtime.batch import decode_together
from hearth.runtime.generation.beam_text import BeamText
from hearth.runtime.generation.sliding import fitted, slide
from hearth.runtime.generation.writing import FinishReason, Task, Writer
from hearth.runtime.sampling import (
    Beams,
    BeamSearch,
    Branch,
    Choice,
    Hypothesis,
    completion_seed,
)
from hearth.runtime.session import Session
from hearth.runtime.text.detokenizer import Detokenizer
from hearth.runtime.text.stop_strings import before_stop
from hearth.schemas.errors import UsageError

Sessions = list[Session[Any]]


@dataclass(frozen=True)
class Completion:
    """A text that is done. `score` is that of a search with beams (a mean log probability, or near it)."""

    text: str
    tokens: tuple[int, ...]
    finish_reason: FinishReason
    choices: tuple[Choice, ...] = ()
    score: float | None = None


def complete(session: Session[Any], task: Task, count: int) -> list[Completion]:
    """`count` texts written in the same runs, each as it would be alone with its seed (`completion_seed`).

    Each has a copy of the constraint. UsageError `arguments.n` for none.
    """
    if count < 1:
        raise UsageError("arguments.n", f"{count} completions", expected="at least 1")
    writers = [_writer(task, index) for index in range(count)]
    logits = session.prefill(fitted(task.prompt, session.context, task.request.full))
    for writer in writers:
        writer.push(logits, room=session.position < session.context)
    going = [writer for writer in writers if writer.finish_reason is None]
    sessions = [session, *(session.fork() for _ in going[1:])]
    while going:
        pairs = list(zip(sessions, going, strict=False))
        for each in sessions:
            if each.position == each.context:  # only a text that may slide goes on beyond it
                slide(each)
        read = decode_together([(each, writer.tokens[-1]) for each, writer in pairs])
        for (each, writer), row in zip(pairs, read, strict=True):
            writer.push(row, room=each.position < each.context)
        pairs = [(each, writer) for each, writer in pairs if writer.finish_reason is None]
        sessions, going = [each for each, _ in pairs], [writer for _, writer in pairs]
    return [_completion(writer) for writer in writers]


def _writer(task: Task, index: int) -> Writer:
    sampling = task.request.sampling
    seeded = replace(sampling, seed=completion_seed(sampling.seed, index))
    request = replace(task.request, sampling=seeded)
    constraint = task.constraint and task.constraint.copy()
    return Writer(request, task.prompt, task.decode, constraint=constraint)


def _completion(writer: Writer) -> Completion:
    writer.tail()
    reason = writer.finish_reason
    assert reason is not None
    return Completion(writer.text, tuple(writer.tokens), reason, tuple(writer.choices))


def best(session: Session[Any], task: Task, wanted: BeamSearch, count: int) -> list[Completion]:
    """The `count` best texts that a search from an empty session finds, best first.

    UsageError `arguments.beams` for more texts than beams, InputError `input.context_full` for a prompt beyond the
    context.
    """
    if not 1 <= count <= wanted.width:
        raise UsageError(
            "arguments.beams",
            f"{count} texts of {wanted.width} beams",
            expected="at most as many texts as beams",
        )
    request, prompt = task.request, tuple(session.checked(task.prompt).tolist())
    room = session.context - len(prompt) + 1  # the last token is not read
    limit = min(request.max_tokens or room, room)
    begin = BeamText.begin(request, prompt, task.decode, task.constraint)
    beams = Beams(wanted, request.sampling, prompt, request.stop_ids, limit, begin)
    _search(session, prompt, beams)
    return [_told(each, task) for each in beams.hypotheses(count)]


def _search(session: Session[Any], prompt: Sequence[int], beams: Beams) -> None:
    """To its end: `beams.hypotheses` are there then."""
    branches = beams.step([session.prefill(prompt)])
    sessions = [session]
    while not beams.done:
        sessions = _followed(sessions, branches)
        tokens = [branch.token for branch in branches]
        branches = beams.step(list(decode_together(list(zip(sessions, tokens, strict=True)))))


def _followed(sessions: Sessions, branches: Sequence[Branch]) -> Sessions:
    """A session for each branch that has read what its parent has; those of parents without one are used again."""
    parents = [branch.parent for branch in branches]
    spare = [each for index, each in enumerate(sessions) if index not in parents]
    followed: Sessions = []
    for index, parent in enumerate(parents):
        if parent not in parents[:index]:
            followed.append(sessions[parent])
        elif spare:
            followed.append(spare.pop())
            followed[-1].restore(sessions[parent].snapshot())
        else:
            followed.append(sessions[parent].fork())
    return followed


def _told(hypothesis: Hypothesis, task: Task) -> Completion:
    """A hypothesis with its text, which is without the stop token and the stop string."""
    tokens, request = hypothesis.tokens, task.request
    stopped = tokens[-1] in request.stop_ids
    detokenizer = Detokenizer(task.decode, task.prompt)
    pieces = [detokenizer.push(token) for token in tokens[: len(tokens) - stopped]]
    text = before_stop("".join((*pieces, detokenizer.flush())), request.stop)
    reason: FinishReason = "stop" if stopped or hypothesis.ended else "length"
    return Completion(text, tokens, reason, score=hypothesis.score)
