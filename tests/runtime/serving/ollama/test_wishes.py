"""Ollama's options in the terms of the runtime, and how much of the context they leave."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from hearth.runtime.generation.defaults import Asked, Defaults, Wishes, wishes
from hearth.runtime.generation.writing import Full, Request
from hearth.runtime.serving.ollama.options import Options
from hearth.runtime.serving.ollama.requests import Common, read_generate
from hearth.runtime.serving.ollama.wishes import Room, asked_of, request_of


@dataclass
class Archive:
    """What `request_of` needs of a model."""

    context: int = 100
    defaults: Defaults = field(default_factory=Defaults)

    def request(self, **asked: object) -> Request:
        return self.defaults.request(wishes(Asked(**asked)), 7)  # type: ignore[typeddict-item]


def wished(**options: object) -> Wishes:
    return wishes(asked_of(Options(**options)))  # type: ignore[arg-type]


def test_nothing_said_is_left_to_the_archive() -> None:
    assert wished() == Wishes()


def test_every_option_has_its_wish() -> None:
    found = wished(
        seed=5, stop=("x",), temperature=0.5, top_k=3, top_p=0.5, min_p=0.1, typical_p=0.9, num_predict=9,
        repeat_penalty=1.1, repeat_last_n=32, presence_penalty=0.2, frequency_penalty=0.3,
    )  # fmt: skip
    assert found == Wishes(
        seed=5, stop=("x",), temperature=0.5, top_k=3, top_p=0.5, min_p=0.1, typical_p=0.9, max_tokens=9,
        repetition_penalty=1.1, penalty_window=32, presence_penalty=0.2, frequency_penalty=0.3,
    )  # fmt: skip


def test_a_seed_below_0_is_another_each_time() -> None:
    assert wished(seed=-1).seed is None


def test_a_window_of_no_tokens_is_no_penalty() -> None:
    found = wished(repeat_last_n=0, repeat_penalty=1.5, frequency_penalty=1.0)
    assert (found.repetition_penalty, found.frequency_penalty) == (1.0, 0.0)


def test_penalties_look_at_64_tokens_unless_told_or_at_all_of_them() -> None:
    assert wished(repeat_penalty=1.5).penalty_window == 64
    assert wished(repeat_penalty=1.5, repeat_last_n=-1).penalty_window == 0
    assert wished(temperature=1.0).penalty_window is None


@pytest.mark.parametrize(
    ("options", "most"),
    [
        (Options(), 40),
        (Options(num_predict=5), 5),
        (Options(num_predict=-1), None),
        (Options(num_predict=-2), None),
        (Options(num_predict=0), None),
        (Options(num_ctx=1000), 40),
        (Options(num_ctx=30), 20),
        (Options(num_ctx=30, num_predict=5), 5),
        (Options(num_ctx=30, num_predict=-1), 20),
        (Options(num_ctx=10), 1),
    ],
)
def test_a_text_ends_where_the_context_asked_for_does(options: Options, most: int | None) -> None:
    archive = Archive(defaults=Defaults(max_tokens=40))
    found = request_of(archive, common(options), 10)  # type: ignore[arg-type]
    assert (found.max_tokens, found.full) == (most, Full.STOP)


@pytest.mark.parametrize(("num_predict", "most"), [(None, 1000), (-1, 1000), (5, 5)])
def test_a_context_that_slides_has_an_end_too(num_predict: int | None, most: int) -> None:
    asked = replace(common(Options(num_predict=num_predict, num_ctx=30)), shift=True)
    found = request_of(Archive(), asked, 10)  # type: ignore[arg-type]
    assert (found.max_tokens, found.full) == (most, Full.SLIDE)


def common(options: Options) -> Common:
    return replace(read_generate({"model": "m"}).common, options=options)


def test_a_context_is_at_most_the_compiled_one() -> None:
    assert Room.of(Options(num_ctx=4096), 100) == Room(100, 25)
    assert Room.of(Options(num_ctx=40, num_predict=4), 100) == Room(40, 4)


def test_ids_that_fit_are_not_cut() -> None:
    ids = list(range(99))
    assert Room(100, 25).cut(ids, 4) == ids


def test_of_ids_too_many_the_first_and_the_last_are_kept() -> None:
    found = Room(100, 25).cut(list(range(200)), 4)
    assert found == [0, 1, 2, 3, *range(129, 200)]
    assert Room(100, 25).cut(list(range(200)), 500)[-1] == 199


@pytest.mark.parametrize(("context", "kept"), [(1, [9]), (2, [9]), (3, [8, 9])])
def test_the_smallest_contexts_keep_a_token(context: int, kept: list[int]) -> None:
    assert Room.of(Options(num_ctx=context), 100).cut(list(range(10)), 0) == kept
