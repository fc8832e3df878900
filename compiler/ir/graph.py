"""The graph: entries, each the ops it gives, over the constants they share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hearth.compiler.ir.ops import Op


@dataclass(frozen=True)
class Graph:
    """Named entries over shared constants. Outputs of an entry: `results` matrices, then the caches it wrote.

    A decoder's frontend makes one entry, `main` (T rows of logits); the split pass makes `prefill` and `decode`.
    With a pooling it has `hidden` too: the rows before the head, of which that pass keeps the last R.
    An encoder has `main` (the pooled vector) and `hidden` (T rows), each with one result and its caches.
    `results` names the matrices that entries give, in order; an entry not listed gives `logits`.
    """

    entries: Mapping[str, tuple[Op, ...]]
    results: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def names(self, entry: str) -> tuple[str, ...]:
        """The names of an entry's result matrices, its first outputs."""
        return self.results.get(entry, ("logits",))

    @property
    def is_decoder(self) -> bool:
        """Whether it gives logits; encoders and parts of general graphs name all their results."""
        return any(name not in self.results for name in self.entries)
