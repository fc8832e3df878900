"""Perplexity of an archive of a checkpoint with a PEFT adapter in each form it can be stored in.

python tests/bench/lora_quality.py CHECKPOINT PEFT_DIR TEXT [--windows 60]: weights f32, int8 and int4 below it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from support.compiling import wanted

from hearth.compiler.lora.add import add_adapter
from hearth.compiler.pipeline import compile_model
from hearth.runtime import AdapterUse, load
from hearth.runtime.archive import open_archive
from hearth.runtime.evaluation import Adapted, window_nats, windows
from hearth.schemas.lora import AdapterWeights

CONTEXT = 256
SCHEMES: dict[str, dict[str, Any]] = {
    "f32": {"weights": "f32", "kv": "f32"},
    "int8": {"weights": "int8"},
    "int4": {"weights": "int4"},
    "int4, rotated": {"weights": "int4", "method": "quarot"},
}


def main() -> None:
    """One line for each scheme and form."""
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("peft", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--windows", type=int, default=60)
    given = parser.parse_args()
    for scheme, asked in SCHEMES.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "m.har"
            compile_model(given.checkpoint, path, wanted(**{**asked, "context": CONTEXT}))
            for form in AdapterWeights:
                add_adapter(open_archive(path), form, given.peft, form)
            model = load(path)
            texts = windows(model.encode(given.text.read_text()), CONTEXT, given.windows)
            forms = {form: Adapted(model, AdapterUse(form)) for form in reversed(AdapterWeights)}
            found = {
                name: np.concatenate(list(window_nats(reader, texts, lambda _: None)))
                for name, reader in {"none": model, **forms}.items()
            }
        for name, nats in found.items():
            value, against = np.exp(nats.mean()), np.exp((nats - found["f16"]).mean()) - 1
            print(f"{scheme}, adapter {name}: perplexity {value:.3f} ({against:+.3%} of f16)")


if __name__ == "__main__":
    main()
