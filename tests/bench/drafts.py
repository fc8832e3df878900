"""What guesses bring: tokens per second without them, all right, a share right, all wrong; and those of lookup.

python tests/bench/drafts.py model.har --tokens 64
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence

from hearth.runtime import Model, load
from hearth.runtime.generation.generate import Generation
from hearth.runtime.speculative.choice import Draft


class Told:
    """Knows the text, and says each token right with a probability."""

    def __init__(self, text: Sequence[int], share: float, vocab: int) -> None:
        draw = random.Random(0)
        self._text = [token if draw.random() < share else (token + 1) % vocab for token in text]

    def guess(self, tokens: Sequence[int], count: int) -> Sequence[int]:
        """What follows."""
        return self._text[len(tokens) : len(tokens) + count]

    def forget(self) -> None:
        """There is one text."""


def written(model: Model, prompt: list[int], tokens: int, draft: Draft | None) -> Generation:
    """A greedy text."""
    generation = model.generate(
        prompt, max_tokens=tokens, temperature=0.0, ignore_eos=True, pieces="ids", draft=draft
    )
    for _ in generation:
        pass
    return generation


def main() -> None:
    """A line for each draft."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--prompt", default="")
    parser.add_argument("--draft")
    given = parser.parse_args()
    model = load(given.archive, given.threads)
    random_prompt = random.Random(0).choices(range(model.vocab), k=24)
    prompt = model.encode(given.prompt) if given.prompt else random_prompt
    plain = written(model, prompt, given.tokens, None)
    text = [*prompt, *plain.tokens]
    drafts: list[tuple[str, Draft | None]] = [("none", None)]
    drafts += [(f"{share:.0%} right", Told(text, share, model.vocab)) for share in (1, 0.7, 0.4, 0)]
    drafts += [("lookup", "lookup")]
    if given.draft:
        drafts += [(given.draft, load(given.draft, given.threads))]
    for name, draft in drafts:
        found = written(model, prompt, given.tokens, draft)
        assert found.tokens == plain.tokens
        stats = found.stats
        print(
            f"{name}: {stats.decode_rate:.1f} tokens/s, {stats.accepted_tokens} of"
            f" {stats.drafted_tokens} guesses right",
            flush=True,
        )


if __name__ == "__main__":
    main()
