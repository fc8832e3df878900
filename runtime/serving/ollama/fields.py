"""Reads the fields of a JSON object, each by name and type; what does not fit is refused by its field's name."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from hearth.runtime.serving.refusals import Refusal

T = TypeVar("T")


def refused(field: str, found: str, expected: str, remedy: str = "") -> Refusal:
    """400: a field of a request that cannot be served as it is."""
    parts = [f"{field!r} {found}", f"expected {expected}" if expected else "", remedy]
    message = "; ".join(part for part in parts if part)
    return Refusal(400, message, parameter=field, code="invalid_value")


@dataclass(frozen=True)
class Fields:
    """The fields of one object. None and a missing field are the same; fields that nobody reads are ignored."""

    values: Mapping[str, Any]
    place: str = ""  # what precedes a field's name in errors, such as "options."

    def text(self, name: str) -> str | None:
        """A string."""
        return self._typed(name, str, "a string")

    def flag(self, name: str) -> bool | None:
        """true or false."""
        return self._typed(name, bool, "true or false")

    def integer(self, name: str) -> int | None:
        """A whole number; 40.0 is one, as JSON does not tell the two apart."""
        value = self.number(name)
        if value is not None and value != int(value):
            raise self._refused(name, value, "a whole number")
        return None if value is None else int(value)

    def number(self, name: str) -> float | None:
        """A number that a double can hold, as it was sent: an integer keeps all its digits."""
        value = self.values.get(name)
        if value is None:
            return None
        if type(value) not in (int, float) or not abs(value) <= sys.float_info.max:
            raise self._refused(name, value, "a number")
        return value  # type: ignore[no-any-return]

    def texts(self, name: str) -> tuple[str, ...] | None:
        """An array of strings, or one string alone."""
        value = self.values.get(name)
        if isinstance(value, str):
            return (value,)
        return self._array(name, "an array of strings", lambda item: isinstance(item, str))

    def integers(self, name: str) -> tuple[int, ...] | None:
        """An array of whole numbers."""
        return self._array(name, "an array of whole numbers", lambda item: type(item) is int)

    def objects(self, name: str) -> tuple[Mapping[str, Any], ...] | None:
        """An array of objects."""
        return self._array(name, "an array of objects", lambda item: isinstance(item, Mapping))

    def inner(self, name: str) -> Fields:
        """The fields of an object within; none where there is no such field."""
        value = self._typed(name, dict, "an object")
        return Fields(value or {}, f"{self.place}{name}.")

    def needed(self, name: str, value: T | None) -> T:
        """The value, which must be there."""
        if value is None:
            raise refused(self.place + name, "is missing", "a value")
        return value

    def _typed(self, name: str, kind: type[T], expected: str) -> T | None:
        value = self.values.get(name)
        if value is None or isinstance(value, kind):
            return value
        raise self._refused(name, value, expected)

    def _array(
        self, name: str, expected: str, fits: Callable[[Any], bool]
    ) -> tuple[Any, ...] | None:
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, Sequence) or isinstance(value, str) or not all(map(fits, value)):
            raise self._refused(name, value, expected)
        return tuple(value)

    def _refused(self, name: str, value: Any, expected: str) -> Refusal:
        return refused(self.place + name, f"is {value!r:.60}", expected)
