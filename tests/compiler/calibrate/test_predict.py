"""The prediction grows with the work, and counts what the work folder holds."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from support.checkpoint import Shape, write_checkpoint

from hearth.compiler import frontend
from hearth.compiler.calibrate.driver import Job, calibrate
from hearth.compiler.calibrate.predict import forecast, tuning_cost
from hearth.compiler.calibrate.stages import every_row
from hearth.compiler.calibrate.work import Work
from hearth.compiler.ir.graph import Graph
from hearth.compiler.passes import FLOAT_PASSES, run_passes
from hearth.compiler.quantize.coding import RoundedSource
from hearth.compiler.quantize.schemes import INT4_G32, make_scheme, parse_methods
from hearth.compiler.tune.fit import tune
from hearth.runtime.progress import Silent
from hearth.schemas.commands import KVScheme

RATE = 1e11


def graph(folder: Path, shape: Shape) -> Graph:
    model = frontend.load(write_checkpoint(folder, shape), context=None, kv=KVScheme.F32)
    return run_passes(FLOAT_PASSES, model.graph)


def job(graph: Graph, methods: str, windows: int = 4) -> Job:
    ids = np.random.default_rng(0).integers(0, 97, (windows, 32)).astype(np.int32)
    return Job(graph, make_scheme(INT4_G32, methods=parse_methods(methods)), ids, threads=2)


def test_more_work_takes_longer_and_more(tmp_path: Path) -> None:
    small, large = (graph(tmp_path / str(ffn), Shape(ffn=ffn)) for ffn in (76, 760))
    plain, gptq, gptaq, tuned = (
        forecast(job(small, name), RATE) for name in ("rtn", "gptq", "gptaq", "gptaq,tune")
    )
    assert plain.seconds < gptq.seconds < gptaq.seconds < tuned.seconds
    assert plain.nbytes < gptq.nbytes < gptaq.nbytes
    assert gptq.disk_nbytes < gptaq.disk_nbytes
    assert forecast(job(large, "gptq"), RATE).nbytes > gptq.nbytes
    assert forecast(job(small, "gptq", 8), RATE).seconds > gptq.seconds
    assert forecast(job(small, "gptq"), RATE / 2).seconds > gptq.seconds


@pytest.mark.parametrize(
    ("shape", "length"),
    [
        (Shape(hidden=64, vocab=8000), 128),  # logits
        (Shape(hidden=256, layers=4, ffn=700, vocab=500), 32),  # weights
        (Shape(hidden=64, layers=4, heads=8), 128),  # attention
    ],
    ids=["vocabulary", "weights", "attention"],
)
def test_tuning_takes_the_memory_that_is_predicted(
    shape: Shape, length: int, tmp_path: Path
) -> None:
    given = graph(tmp_path / "source", shape)
    ids = np.random.default_rng(0).integers(0, shape.vocab, (2, length)).astype(np.int32)
    job = Job(given, make_scheme(INT4_G32, methods=parse_methods("rtn,tune")), ids, threads=1)
    coded = {
        name: RoundedSource(each.value, scheme) for name, (each, scheme) in job.weights().items()
    }
    logits = every_row(given, "prefill")[0]
    tracemalloc.start()
    tune(logits, coded, ids, Silent(), epochs=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    predicted = tuning_cost(job, RATE)[1]
    assert 0.8 * predicted <= peak <= 1.25 * predicted


def test_the_folder_holds_no_more_than_predicted(tmp_path: Path) -> None:
    given = job(graph(tmp_path / "source", Shape(tied=False)), "gptaq")
    work = Work(tmp_path / "work", "key", interval=0.0)
    most = [0]
    saves = work.save

    def save(state: object) -> None:
        saves(state)  # type: ignore[arg-type]
        most[0] = max(most[0], sum(path.stat().st_size for path in work.folder.iterdir()))

    work.save = save  # type: ignore[method-assign, assignment]
    calibrate(given, work, Silent())
    headers = 64 << 10  # of arrays and the state
    assert most[0] <= forecast(given, RATE).disk_nbytes + headers
