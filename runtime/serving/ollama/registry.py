"""What would fetch, make or change models: answers of a server whose models are the files that it was started with."""

from __future__ import annotations

from hearth.runtime.serving.ollama.responses import Json, error

STATUS_NOT_IMPLEMENTED = 501
REFUSAL = (
    "this server has no registry: it serves the archives that it was started with; "
    "compile a model with `hearth compile` and start `hearth serve` with its file"
)
PULLED: tuple[Json, ...] = ({"status": "pulling manifest"}, {"status": "success"})


def refusal() -> Json:
    """The body of create, push, copy, delete and a blob that is sent."""
    return error(REFUSAL)
