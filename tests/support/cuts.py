"""A session and a chooser that act at random, are saved at some moment, and must go on as if they had not been."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hearth.runtime.contexts.saved import Text, load_context, save_context
from hearth.runtime.generation.writing import Request
from hearth.runtime.sampling import Chooser, Sampling
from hearth.runtime.session import Executor, Session

Logits = NDArray[np.float32]


@dataclass
class Speech:
    """A session and a chooser that act at random, and all that came out."""

    session: Session[Any]
    chooser: Chooser
    rng: np.random.Generator
    said: list[tuple[int, Logits]]

    def act(self) -> None:
        """Read a prompt, write some tokens, go back or take another adapter."""
        session, rng = self.session, self.rng
        vocab, room = session.executor.vocab, session.context - session.position
        kind = rng.integers(0, 10)
        if kind == 0 and session.executor.adapters:
            names = [None, *session.executor.adapters]
            name = names[rng.integers(len(names))]
            session.use_adapter(name, float(rng.choice([0.5, 1.0])))
        elif kind == 1 or room < 12:
            session.rewind(int(rng.integers(0, session.position + 1)))
        elif kind < 5:
            self.choose(session.prefill(rng.integers(0, vocab, rng.integers(1, 12)).tolist()))
        else:
            last = self.chooser.state().tokens[-1:] or (0,)
            self.choose(session.decode(last[0]))

    def choose(self, logits: Logits) -> None:
        self.said.append((self.chooser.choose(logits).token, logits))

    def save(self, path: Path) -> None:
        state = self.chooser.state()
        save_context(path, self.session, Text(Request(sampling=state.sampling), state))

    @staticmethod
    def restored(path: Path, model: Executor[Any], rng: np.random.Generator) -> Speech:
        context = load_context(path, model)
        assert context.text is not None
        return Speech(context.session(model), Chooser.restored(context.text.chooser), rng, [])


def settings(rng: np.random.Generator) -> Sampling:
    return Sampling(
        temperature=float(rng.choice([0.0, 0.7, 1.0, 1.5])),
        top_k=int(rng.choice([0, 5, 40])),
        top_p=float(rng.choice([0.8, 1.0])),
        min_p=float(rng.choice([0.0, 0.05])),
        repetition_penalty=float(rng.choice([1.0, 1.3])),
        presence_penalty=float(rng.choice([0.0, 0.5])),
        frequency_penalty=float(rng.choice([0.0, 0.5])),
        penalty_window=int(rng.choice([0, 8])),
        logit_bias=((3, 1.5),),
        banned=(7,),
        seed=int(rng.integers(0, 2**63)),
    )


def check_cut(model: Executor[Any], seed: int, path: Path) -> None:
    rng = np.random.default_rng(seed)
    speech = Speech(Session(model), Chooser(settings(rng), ()), rng, [])
    for _ in range(int(rng.integers(0, 25))):
        speech.act()
    speech.save(path)
    before = len(speech.said)
    other = Speech.restored(path, model, np.random.default_rng(seed + 1))
    speech.rng = np.random.default_rng(seed + 1)
    assert other.session.tokens == speech.session.tokens
    assert other.session.readers == speech.session.readers
    assert other.session.adapter == speech.session.adapter
    for _ in range(15):
        speech.act()
        other.act()
    rest = speech.said[before:]
    assert [token for token, _ in other.said] == [token for token, _ in rest]
    for (_, got), (_, want) in zip(other.said, rest, strict=True):
        assert np.array_equal(got, want)
