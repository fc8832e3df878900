"""What becomes of an answer where its context is full: as the request says, else as the server was told."""

from __future__ import annotations

from dataclasses import replace

from hearth.runtime.generation.writing import Full, Request

MOST_CONTEXTS = 10


def at_the_end(request: Request, full: Full, context: int) -> Request:
    """A request with that policy; one that slides has an end too, after ten contexts unless it says another."""
    most = MOST_CONTEXTS * context if full is Full.SLIDE else None
    return replace(request, full=full, max_tokens=request.max_tokens or most)
