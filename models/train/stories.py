"""grammar.toml + seed -> short children's stories. All of the text is this project's own."""

import argparse
import itertools
import random
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Grammar = Mapping[str, Any]

SENTENCES = range(5, 13)  # a story of fewer or more is drawn again
FAIR_SKIES = ("sunny", "windy", "cloudy", "autumn", "spring")
PRONOUNS = {
    "girl": ("she", "her", "her", "herself"),
    "boy": ("he", "him", "his", "himself"),
}
ADULTS = {
    "mother": "girl", "grandmother": "girl", "aunt": "girl",
    "father": "boy", "grandfather": "boy", "uncle": "boy",
}  # fmt: skip
CHOICE = re.compile(r"\[([^\[\]]*)\]")
SLOT = re.compile(r"\{(\w+)\}")
SENTENCE_START = re.compile(r'(^"?|[.] "?|[.]" "?)([a-z])')
SENTENCE_END = re.compile(r'[.!?]"?(?= "?[A-Z]|$)')


@dataclass(frozen=True)
class Story:
    request: str  # what a listener may have asked for
    text: str


class Teller:
    """Fills templates for one story: every slot keeps its word, and the friend is introduced at the first mention."""

    def __init__(self, cast: Mapping[str, str], rng: random.Random) -> None:
        self.cast = cast
        self.rng = rng
        self.friend_is_known = False

    def tell(self, template: str) -> str:
        while CHOICE.search(template):
            template = CHOICE.sub(lambda m: self.rng.choice(m[1].split("|")), template)
        return SENTENCE_START.sub(lambda m: m[1] + m[2].upper(), SLOT.sub(self._word, template))

    def _word(self, slot: re.Match[str]) -> str:
        name = slot[1]
        if name in ("friend", "friend_s", "friend_intro"):
            suffix = "'s" if name == "friend_s" else ""
            name = "friend_name" if self.friend_is_known else "friend_intro"
            self.friend_is_known = True
            return self.cast[name] + suffix
        self.friend_is_known |= name == "friend_name"
        word = self.cast[name.lower()]
        return word[0].upper() + word[1:] if name[0].isupper() else word


def load_grammar() -> Grammar:
    path = Path(__file__).with_name("grammar.toml")
    return tomllib.loads(path.read_text(encoding="utf-8"))


def stories(seed: int, grammar: Grammar) -> Iterator[Story]:
    """An endless stream; the same seed and grammar give the same stories."""
    rng = random.Random(seed)
    while True:
        plot = rng.choice(grammar["plots"])
        story = draw_story(grammar, plot, rng)
        while count_sentences(story.text) not in SENTENCES:
            story = draw_story(grammar, plot, rng)
        yield story


def draw_story(grammar: Grammar, plot: Grammar, rng: random.Random) -> Story:
    cast = draw_cast(grammar, plot, rng)
    teller = Teller(cast, rng)
    frame = grammar["story"]

    opening = rng.choice(frame["openings"])
    templates = [opening]
    if "{hobby}" not in opening and rng.random() < 0.3:
        templates.append(rng.choice(frame["habits"]))
    for beat in _kept_beats(plot, rng):
        template = rng.choice(beat)
        templates.append(template)
        if _sets_the_scene(template) and rng.random() < 0.4:
            templates.append("{Sky}")
    if rng.random() < 0.3:
        templates.append(rng.choice(frame["endings"]))
    return Story(draw_request(grammar, plot, cast, rng), " ".join(map(teller.tell, templates)))


def draw_request(
    grammar: Grammar, plot: Grammar, cast: Mapping[str, str], rng: random.Random
) -> str:
    request = grammar["request"]
    about = rng.choice(request["who"] if rng.random() < 0.6 else plot["about"])
    teller = Teller(cast, rng)
    teller.friend_is_known = True
    return teller.tell(rng.choice(request["about"]).replace("{about}", about))


def draw_cast(grammar: Grammar, plot: Grammar, rng: random.Random) -> dict[str, str]:
    words = grammar["words"]
    cast = {name: rng.choice(choices) for name, choices in words.items()}
    cast["thing"] = _other_than(cast["toy"], words["thing"], rng)

    who = rng.choice(plot["who"])
    sex, friend_sex = rng.choice(("girl", "boy")), rng.choice(("girl", "boy"))
    if who == "child":
        kind, friend_kind = sex, friend_sex
        cast["home"] = rng.choice(grammar["homes"]["child"])
        names, friend_names = grammar["names"][sex], grammar["names"][friend_sex]
        relations = ["friend", "friend", "cousin", "sister" if friend_sex == "girl" else "brother"]
    else:
        kind = rng.choice(list(grammar["animals"]))
        friend_kind = _other_than(kind, list(grammar["animals"]), rng)
        cast["home"] = grammar["animals"][kind]
        names = friend_names = grammar["names"]["animal"]
        relations = ["friend"]
    hero = rng.choice(names)
    friend = _other_than(hero, friend_names, rng)
    he, him, his, himself = PRONOUNS[sex]
    fhe, fhim, fhis, _ = PRONOUNS[friend_sex]
    adult = rng.choice(list(ADULTS))
    ahe, ahim, ahis, _ = PRONOUNS[ADULTS[adult]]
    intro = f"{his} {rng.choice(relations)} {friend}"
    if who == "animal":
        intro = rng.choice((f"{intro} the {friend_kind}", f"{friend} the {friend_kind}"))

    place = rng.choice(grammar["places"])
    sky = grammar["skies"][rng.choice(plot.get("skies", FAIR_SKIES))]
    day = rng.randrange(0, len(sky), 2)
    cast |= {
        "hero": hero, "hero_s": f"{hero}'s", "kind": kind, "he": he, "him": him, "his": his, "himself": himself,
        "friend_name": friend, "friend_intro": intro, "fkind": friend_kind, "fhe": fhe, "fhim": fhim, "fhis": fhis,
        "adult": adult, "ahe": ahe, "ahim": ahim, "ahis": ahis,
        "place": place["name"], "at_place": place["at"], "spot": rng.choice(place["spots"]),
        "day": sky[day], "sky": sky[day + 1],
    }  # fmt: skip
    return cast | {f"a_{name}": with_article(word) for name, word in cast.items()}


def with_article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def count_sentences(text: str) -> int:
    return len(SENTENCE_END.findall(text))


def _kept_beats(plot: Grammar, rng: random.Random) -> list[Sequence[str]]:
    """All beats but a random few of those the plot can spare."""
    spare = set(plot["spare"])
    return [beat for i, beat in enumerate(plot["beats"]) if i not in spare or rng.random() < 0.5]


def _sets_the_scene(template: str) -> bool:
    return template.startswith("{Day}") and '"' not in template


def _other_than(taken: str, choices: Sequence[str], rng: random.Random) -> str:
    return rng.choice([choice for choice in choices if choice != taken])


def main() -> None:
    parser = argparse.ArgumentParser(description="Print stories, one a line.")
    parser.add_argument("count", type=int, nargs="?", default=5)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for story in itertools.islice(stories(arguments.seed, load_grammar()), arguments.count):
        print(f"({story.request})\n{story.text}\n")


if __name__ == "__main__":
    main()
