"""How well an archive models text, measured on the archive itself as it runs here."""

from hearth.runtime.evaluation.adapted import Adapted
from hearth.runtime.evaluation.choice import Choices, answer, read_items
from hearth.runtime.evaluation.comparison import Comparison, compare
from hearth.runtime.evaluation.perplexity import Perplexity, perplexity, window_nats
from hearth.runtime.evaluation.windows import Window, windows

__all__ = [
    "Adapted",
    "Choices",
    "Comparison",
    "Perplexity",
    "Window",
    "answer",
    "compare",
    "perplexity",
    "read_items",
    "window_nats",
    "windows",
]
