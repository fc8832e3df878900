"""What is fuzzed: bytes in, a HearthError or a result out; anything else is a finding."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from support import checkpoints
from support.compiling import wanted

from fuzz.archive_mutator import mutate_archive
from fuzz.proto_mutator import mutate_message
from hearth.compiler.conduct import Conduct
from hearth.compiler.pipeline import compile_model
from hearth.runtime import load_any
from hearth.runtime.archive import open_archive
from hearth.runtime.model import Model
from hearth.schemas.errors import HearthError

FLOAT = wanted(
    weights="f32", activations="none", kv="f32", context=32
)  # which the goldens' decoder ends at
GOLDENS = Path(__file__).parent.parent / "goldens"


@dataclass(frozen=True)
class Target:
    """`run` takes the path of a file that holds the input; `mutate` gives None for what it cannot read."""

    suffix: str
    run: Callable[[Path], None]
    seeds: Callable[[Path], Iterator[bytes]]
    mutate: Callable[[bytes, random.Random], bytes | None]


def run_archive(path: Path) -> None:
    """Check everything, load, and let a decoder read and write a few tokens."""
    with suppress(HearthError):
        open_archive(path, "full")
        model = load_any(path, threads=1)
        if isinstance(model, Model) and model.context <= 4096:
            session = model.session()
            logits = session.prefill(np.arange(min(3, model.vocab), dtype=np.int32))
            session.decode(int(np.nan_to_num(logits).argmax()))


def run_onnx(path: Path) -> None:
    """Compile to an archive and load it."""
    output = path.with_suffix(".har")
    with suppress(HearthError):
        compile_model(path, output, FLOAT, Conduct(1))
        run_archive(output)


def archive_seeds(folder: Path) -> Iterator[bytes]:
    """Tiny archives of every kind."""
    yield from (path.read_bytes() for path in sorted(GOLDENS.parent.glob("archives/*.har")))
    source = checkpoints.write_checkpoint(folder / "checkpoint")
    for weights in ("int4", "f32"):
        activations = "dynamic" if weights == "int4" else "none"
        output = folder / f"{weights}.har"
        compile_model(source, output, wanted(weights=weights, activations=activations))
        yield output.read_bytes()
    for graph in sorted(GOLDENS.glob("**/*.onnx")):
        output = folder / f"{graph.stem}.har"
        compile_model(graph, output, FLOAT)
        yield output.read_bytes()


def onnx_seeds(folder: Path) -> Iterator[bytes]:
    """The small graphs of the goldens, and single nodes of the standard's own tests."""
    yield from (path.read_bytes() for path in sorted(GOLDENS.glob("**/*.onnx")))
    from onnx.backend.test.case.node import collect_testcases

    cases = collect_testcases(None)
    for case in random.Random(0).sample(sorted(cases, key=lambda case: case.name), 120):
        if case.model is not None and case.model.ByteSize() < 20_000:
            yield case.model.SerializeToString()


def mutate_onnx(data: bytes, rng: random.Random) -> bytes | None:
    return mutate_message(data, onnx.ModelProto, rng)


TARGETS = {
    "archive": Target(".har", run_archive, archive_seeds, mutate_archive),
    "onnx": Target(".onnx", run_onnx, onnx_seeds, mutate_onnx),
}
