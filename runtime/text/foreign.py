"""What libraries written in Rust raise: exceptions, and panics, which are no `Exception` and pass its handlers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hearth.schemas.errors import HearthError

MOST_WORDS = 300  # characters of a library's own message


@contextmanager
def foreign(refusal: Callable[[str], HearthError]) -> Iterator[None]:
    """Whatever a library raises becomes the refusal, which is given the library's words in one line."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        raise refusal(" ".join(str(error).split())[:MOST_WORDS]) from None
