"""The demo model's training text: the same for the same seed, well formed, and one story from end to end."""

import importlib.util
import itertools
import random
import re
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "models" / "train" / "stories.py"


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("train_stories", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


script = load_script()
GRAMMAR = script.load_grammar()
STORIES = list(itertools.islice(script.stories(7, GRAMMAR), 1000))
PLOTS = [pytest.param(plot, id=plot["name"]) for plot in GRAMMAR["plots"]]


def test_same_seed_same_stories() -> None:
    assert list(itertools.islice(script.stories(7, GRAMMAR), 1000)) == STORIES


def test_other_seed_other_stories() -> None:
    others = {story.text for story in itertools.islice(script.stories(8, GRAMMAR), 1000)}
    assert others.isdisjoint(story.text for story in STORIES)


def test_no_story_twice() -> None:
    assert max(Counter(story.text for story in STORIES).values()) == 1


def test_every_template_is_filled() -> None:
    for story in STORIES:
        assert not re.search(r"[\[\]{}|]", story.text + story.request), story


def test_only_plain_characters() -> None:
    assert not set("".join(story.text + story.request for story in STORIES)) - set(
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ .,!?'\""
    )


def test_sentences_begin_and_end_well() -> None:
    for story in STORIES:
        assert re.fullmatch(r'[A-Z].*[.!?]"?', story.text), story
        assert not re.search(r'[.] "?[a-z]|[.]" [a-z]|  | [.,!?]|[.,!?]{2}', story.text), story


def test_quotation_marks_are_paired() -> None:
    for story in STORIES:
        assert story.text.count('"') % 2 == 0, story
        for said in story.text.split('"')[1::2]:
            assert re.fullmatch(r"\S(.*\S)?", said) and said[-1] in ".,!?", story


def test_article_fits_the_next_word() -> None:
    for story in STORIES:
        assert not re.search(r"\b[Aa] [aeiou]|\b[Aa]n [^aeiou]", story.text), story


@pytest.mark.parametrize("plot", PLOTS)
def test_length(plot: Mapping[str, Any]) -> None:
    """Every plot can be told in the wanted number of sentences, and not by rare luck."""
    rng = random.Random(0)
    lengths = [
        script.count_sentences(script.draw_story(GRAMMAR, plot, rng).text) for _ in range(200)
    ]
    assert sum(length in script.SENTENCES for length in lengths) > 40


@pytest.mark.parametrize("plot", PLOTS)
def test_names_stay_the_same(plot: Mapping[str, Any]) -> None:
    """Whoever is named is the hero or the friend of the cast."""
    names = {name for group in GRAMMAR["names"].values() for name in group}
    for seed in range(50):
        story = script.draw_story(GRAMMAR, plot, random.Random(seed))
        cast = script.draw_cast(GRAMMAR, plot, random.Random(seed))
        assert names & set(re.findall(r"\w+", story.text)) <= {cast["hero"], cast["friend_name"]}, (
            story
        )
        assert cast["hero"] in story.text


@pytest.mark.parametrize("plot", PLOTS)
def test_spare_beats_exist(plot: Mapping[str, Any]) -> None:
    assert set(plot["spare"]) < set(range(len(plot["beats"])))


def test_friend_is_introduced_once() -> None:
    cast = {"friend_name": "Ben", "friend_intro": "her friend Ben"}
    teller = script.Teller(cast, random.Random(0))
    assert teller.tell("{friend} came.") == "Her friend Ben came."
    assert teller.tell("{friend} sat down on {friend_s} hat.") == "Ben sat down on Ben's hat."


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("It rained.", 1),
        ('"Where is it?" asked Tom.', 1),
        ('"I am sorry," said Ann. "Let us play!"', 2),
        ('Click! "Oh," said Ann. Inside was a note.', 3),
    ],
)
def test_count_sentences(text: str, sentences: int) -> None:
    assert script.count_sentences(text) == sentences
