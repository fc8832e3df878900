"""A model that reads everything with one adapter, for evaluations of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from hearth.runtime.adapters import AdapterUse, check_known
from hearth.runtime.session import Executor, Logits

StateT = TypeVar("StateT")


@dataclass(frozen=True, eq=False)
class Adapted(Generic[StateT]):
    """An executor that reads everything with one adapter. UsageError `arguments.adapter` for one it does not have."""

    executor: Executor[StateT]
    adapter: AdapterUse

    def __post_init__(self) -> None:
        check_known(self.adapter, self.executor.adapters)

    @property
    def vocab(self) -> int:
        return self.executor.vocab

    @property
    def context(self) -> int:
        return self.executor.context

    @property
    def chunk(self) -> int:
        return self.executor.chunk

    def new_state(self) -> StateT:
        return self.executor.new_state()

    def run(
        self, state: StateT, entry: str, tokens: NDArray[np.int32], position: int, logits: Logits
    ) -> None:
        """As `Executor.run`."""
        self.executor.run(state, entry, tokens, position, logits, self.adapter)
