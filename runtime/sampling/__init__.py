"""From logits to a token: what is changed, in which order, and how one is drawn (docs/sampling.md)."""

from hearth.runtime.sampling.beams import Beams, BeamSearch, Branch, EarlyStopping, Hypothesis
from hearth.runtime.sampling.choice import Choice
from hearth.runtime.sampling.chooser import Chooser
from hearth.runtime.sampling.constraint import Constraint
from hearth.runtime.sampling.order import ORDER, Step
from hearth.runtime.sampling.seeds import completion_seed
from hearth.runtime.sampling.settings import GREEDY, Sampling
from hearth.runtime.sampling.state import ChooserState

__all__ = [
    "GREEDY",
    "ORDER",
    "BeamSearch",
    "Beams",
    "Branch",
    "Choice",
    "Chooser",
    "ChooserState",
    "Constraint",
    "EarlyStopping",
    "Hypothesis",
    "Sampling",
    "Step",
    "completion_seed",
]
