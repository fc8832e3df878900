"""Times all-MiniLM-L6-v2 compiled here and in onnxruntime, in one process and in turn: one text of 128 tokens.

    PYTHONPATH=tests python tests/bench/minilm.py [--threads 2] [--repeats 30] [--tokens 128] [--folder DIRECTORY]

The folder keeps the exports and archives from one run to the next; without one they are
made anew (about a minute). Beside each median stands what onnxruntime's f32 takes, divided by it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from support.compiling import wanted
from support.minilm import minilm

from hearth.compiler.pipeline import compile_model
from hearth.runtime import load_encoder

RECIPES: Mapping[str, Mapping[str, str]] = {
    "f32": {"weights": "f32", "kv": "f32"},
    "int8": {"weights": "int8", "activations": "dynamic"},
    "int8-weights": {"weights": "int8", "activations": "none"},
}
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
Run = Callable[[], object]


def export(folder: Path) -> None:
    """onnx f32 as torch writes it, the same with onnxruntime's own fusions for BERT, and the fused one in int8."""
    import torch
    import transformers
    from onnxruntime.quantization import quantize_dynamic
    from onnxruntime.transformers import optimizer

    encoder = transformers.AutoModel.from_pretrained(minilm(), attn_implementation="eager")

    class Rows(torch.nn.Module):  # type: ignore[name-defined,misc]
        """The last layer's rows alone."""

        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(self, ids: object, mask: object, types: object) -> object:
            given = dict(zip(INPUTS, (ids, mask, types), strict=True))
            return self.encoder(**given).last_hidden_state

    ids = torch.ones(1, 16, dtype=torch.int64)
    axes = {name: {0: "batch", 1: "length"} for name in (*INPUTS, "last_hidden_state")}
    plain, fused = folder / "onnx-f32.onnx", folder / "onnx-f32-fused.onnx"
    torch.onnx.export(
        Rows().eval(),
        (ids, ids, torch.zeros_like(ids)),
        str(plain),
        dynamo=False,
        opset_version=17,
        input_names=list(INPUTS),
        output_names=["last_hidden_state"],
        dynamic_axes=axes,
    )
    found = optimizer.optimize_model(str(plain), model_type="bert", num_heads=12, hidden_size=384)
    found.save_model_to_file(str(fused))
    for source, name in ((plain, "onnx-int8"), (fused, "onnx-int8-fused")):
        extra = {"DefaultTensorType": onnx.TensorProto.FLOAT}
        quantize_dynamic(source, folder / f"{name}.onnx", extra_options=extra)


def onnx_run(path: Path, ids: list[int], threads: int) -> Run:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    row = np.array([ids], np.int64)
    feeds = dict(zip(INPUTS, (row, np.ones_like(row), np.zeros_like(row)), strict=True))
    return lambda: session.run(None, feeds)


def hearth_run(path: Path, ids: list[int], threads: int) -> Run:
    encoder = load_encoder(path, threads=threads)
    return lambda: encoder.embed([ids])


def runs(folder: Path, ids: list[int], threads: int) -> dict[str, Run]:
    """By name; makes what the folder lacks."""
    if not (folder / "onnx-int8.onnx").exists():
        export(folder)
    found = {path.stem: onnx_run(path, ids, threads) for path in sorted(folder.glob("*.onnx"))}
    for name, recipe in RECIPES.items():
        archive = folder / f"{name}.har"
        if not archive.exists():
            compile_model(minilm(), archive, wanted(**recipe, context=256))
        found[f"hearth-{name}"] = hearth_run(archive, ids, threads)
    return found


def timed(runs: Mapping[str, Run], repeats: int) -> dict[str, list[float]]:
    """Milliseconds of every run. In turn, so that all see the same machine; three calls first, untimed.

    Threads of one that still spin after its call would slow the next, hence the pause.
    """
    found: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(repeats):
        for name, run in runs.items():
            time.sleep(0.02)
            for _ in range(3 if repeat == 0 else 1):
                run()
            start = time.perf_counter()
            run()
            found[name].append((time.perf_counter() - start) * 1e3)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args()
    ids = np.random.default_rng(0).integers(1000, 30000, args.tokens).tolist()
    with tempfile.TemporaryDirectory() as scratch:
        found = timed(runs(args.folder or Path(scratch), ids, args.threads), args.repeats)
    one = float(np.median(found["onnx-f32"]))
    print(f"{args.tokens} tokens, {args.threads} threads, medians of {args.repeats}, ms")
    for name, times in found.items():
        median = float(np.median(times))
        print(f"{name:20} {median:7.2f} ({min(times):.2f}-{max(times):.2f})  x {one / median:.2f}")


if __name__ == "__main__":
    main()
