"""HellaSwag's form against an independent computation with transformers: the same sums, the same answers."""

from __future__ import annotations

import bz2
import os
from pathlib import Path

import numpy as np
import pytest
from conftest import Archives
from support.data import real

from hearth.runtime import load
from hearth.runtime.evaluation import answer, read_items

torch = pytest.importorskip("torch", reason="needs the parity extra")
transformers = pytest.importorskip("transformers", minversion="5", reason="needs the parity extra")

ITEMS = int(os.environ.get("HEARTH_PARITY_ITEMS", "400"))
# Relative to a sum of about 100 nats of some 30 tokens: f32 logits differ by 1e-4 at most.
CLOSE = 2e-5


def independent(checkpoint: Path, items: Path) -> tuple[np.ndarray, np.ndarray]:
    """(-log p f64[items, 4] of each ending's tokens, gold): the file read, cut and scored without hearth."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
    model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    lines = bz2.decompress(items.read_bytes()).decode().split("\n")[: 6 * ITEMS]
    gold = np.array([int(each) for each in lines[1::6]])
    sums = np.empty((ITEMS, 4))
    for place in range(ITEMS):
        context, _, *endings = lines[6 * place : 6 * place + 6]
        start = tokenizer(context).input_ids
        for column, ending in enumerate(endings):
            ids = tokenizer(context + " " + ending).input_ids
            shared = len(os.path.commonprefix([start, ids]))
            with torch.no_grad():
                logits = model(torch.tensor([ids])).logits[0].double()
            rows = torch.log_softmax(logits, dim=-1)[torch.arange(len(ids) - 1), ids[1:]]
            sums[place, column] = -rows[max(shared, 1) - 1 :].sum()
    return sums, gold


def test_hellaswag_of_a_real_checkpoint_equals_transformers(archives: Archives) -> None:
    """Every sum close, the same answer wherever two endings are not a tie, the same accuracy; int8 near it."""
    checkpoint = archives.checkpoint("stories3M")
    path = real("text", "hellaswag-validation.txt.bz2")
    torch.set_num_threads(1)
    sums, gold = independent(checkpoint, path)
    items = read_items(path, ITEMS)
    wide = {"kv": "f32", "context": 512}
    model = load(archives("stories3M", weights="f32", activations="none", **wide), threads=2)
    found = answer(model, model.tokenizer, items, lambda _: None)
    assert np.array_equal(found.gold, gold)
    assert np.allclose(found.nats, sums, rtol=CLOSE, atol=0)
    assert np.array_equal(found.chosen, sums.argmin(axis=1))
    assert found.accuracy == (sums.argmin(axis=1) == gold).mean()

    coded = load(archives("stories3M", weights="int8", activations="dynamic", **wide), threads=2)
    quantised = answer(coded, coded.tokenizer, items, lambda _: None)
    print(f"{ITEMS} items: f32 {found.accuracy:.4f} {found.accuracy_norm:.4f}, ", end="")
    print(f"int8 {quantised.accuracy:.4f} {quantised.accuracy_norm:.4f}")
    assert (quantised.chosen == found.chosen).mean() > 0.95
