"""What `hearth compile` says: before the long part, of the comparison with the source, and at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from math import isfinite
from typing import Any

from hearth.compiler.check.accuracy import Accuracy, Figures
from hearth.compiler.frontend import SourceModel
from hearth.compiler.job import CompileReport
from hearth.compiler.memory import Prediction
from hearth.runtime.commands.terminal import duration, size, table

# Title, and its cell; a column whose cells are all empty is left out.
COLUMNS: tuple[tuple[str, Callable[[Figures], str]], ...] = (
    ("compared with the source", lambda each: each.name),
    ("rows", lambda each: str(each.rows)),
    ("max error", lambda each: f"{each.max_error:.3g}"),
    ("relative", lambda each: f"{each.relative:.3g}"),
    ("KL mean", lambda each: _number(each.kld_mean)),
    ("KL max", lambda each: _number(each.kld_max)),
    ("top-1", lambda each: "" if each.top1 is None else f"{100 * each.top1:.1f} %"),
    ("cosine", lambda each: "" if each.cosine is None else f"{each.cosine:.6f}"),
)


def prediction_text(model: SourceModel, prediction: Prediction) -> str:
    """What is printed before the long part starts."""
    notes = "".join(f"note: {note}\n" for note in model.notes)
    took = ""
    if prediction.seconds is not None:
        took = f"calibrating and coding will take about {duration(prediction.seconds)}, "
    mapped = f", at most {size(prediction.mapped)} of it the archive mapped"
    return f"{notes}{took}peak memory will be about {size(prediction.peak)}{mapped}\n"


def prediction_json(prediction: Prediction) -> dict[str, Any]:
    """The same for a program."""
    sizes = {"peak_nbytes": prediction.peak, "mapped_nbytes": prediction.mapped}
    return {"event": "predicted", **sizes, "seconds": prediction.seconds}


def accuracy_text(accuracy: Accuracy) -> str:
    """One row for each input and one for all."""
    rows = (*accuracy.inputs, accuracy.total)
    shown = [(title, cell) for title, cell in COLUMNS if any(cell(each) for each in rows)]
    head = tuple(title for title, _ in shown)
    return table([head, *(tuple(cell(each) for _, cell in shown) for each in rows)]) + "\n"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def accuracy_json(accuracy: Accuracy) -> dict[str, Any]:
    """The same for a program."""

    def figures(each: Figures) -> dict[str, Any]:
        values = asdict(each) | {"relative": each.relative}
        return {name: _json_number(value) for name, value in values.items()}

    inputs = [figures(each) for each in accuracy.inputs]
    return {"event": "accuracy", "total": figures(accuracy.total), "inputs": inputs}


def _json_number(value: Any) -> Any:
    """JSON has no infinity and nothing that is no number."""
    return None if isinstance(value, float) and not isfinite(value) else value


def report_text(report: CompileReport, seconds: float) -> str:
    """Three lines for a person."""
    packed = report.packed
    notes = "".join(f"note: {note}\n" for note in report.notes)
    predicted = f" (predicted {size(report.predicted_peak)})" if report.predicted_peak else ""
    return (
        f"{notes}{report.output}: {size(packed.archive_nbytes)}, {packed.parameters / 1e6:,.1f} M parameters, "
        f"{packed.bits_per_weight:.2f} bits per weight\n"
        f"at run time: arena {size(report.arena_nbytes)} (at least {size(report.arena_lower_bound)}), "
        f"KV cache {size(report.kv_nbytes)}\n"
        f"took {duration(seconds)}, peak memory {size(report.measured_peak)}{predicted}\n"
    )


def report_json(report: CompileReport, seconds: float) -> dict[str, Any]:
    """The same for a program."""
    facts = asdict(report) | {"output": str(report.output), "seconds": round(seconds, 3)}
    del facts["accuracy"]  # told before, in an event of its own
    return {"event": "compiled", **facts}
