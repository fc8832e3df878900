"""Fields: typed reading of a JSON object that remembers which keys were read."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hearth.schemas.errors import CheckpointError

LARGEST = 2**62  # of a whole number: JSON knows no bound, and floats and sizes do


@dataclass(frozen=True, eq=False)
class Fields:
    """`values` of the object called `where`; a key whose value is null counts as absent."""

    values: Mapping[str, Any]
    where: str
    seen: set[str] = field(default_factory=set)

    def integer(self, key: str, default: int | None = None, minimum: int = 1) -> int:
        """A whole number of at least `minimum`; required without a default."""
        value = self.optional_integer(key, minimum)
        if value is not None:
            return value
        if default is None:
            raise self._missing(key, "a whole number")
        return default

    def optional_integer(self, key: str, minimum: int = 1) -> int | None:
        """A whole number of at least `minimum`, or None."""
        value = self.take(key)
        if value is None:
            return None
        if type(value) is not int or not minimum <= value <= LARGEST:
            raise self.invalid(key, f"a whole number of at least {minimum}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A positive finite number; required without a default."""
        value = self.take(key)
        if value is None and default is not None:
            return default
        if value is None:
            raise self._missing(key, "a number")
        if not _is_positive(value):
            raise self.invalid(key, "a positive number")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """true or false."""
        value = self.take(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.invalid(key, "true or false")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        """A string; required without a default."""
        value = self.take(key)
        if value is None and default is not None:
            return default
        if value is None:
            raise self._missing(key, "a string")
        if not isinstance(value, str):
            raise self.invalid(key, "a string")
        return value

    def table(self, key: str) -> Mapping[str, Any] | None:
        """An object, or None."""
        value = self.take(key)
        if value is not None and not isinstance(value, dict):
            raise self.invalid(key, "an object")
        return value

    def strings(self, key: str) -> tuple[str, ...] | None:
        """A list of strings, or None."""
        value = self.take(key)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.invalid(key, "a list of strings")
        return tuple(value)

    def numbers(self, key: str) -> tuple[float, ...]:
        """A list of positive finite numbers; required."""
        value = self.take(key)
        if value is None:
            raise self._missing(key, "a list of numbers")
        if not isinstance(value, list) or not all(map(_is_positive, value)):
            raise self.invalid(key, "a list of positive numbers")
        return tuple(map(float, value))

    def take(self, key: str) -> Any:
        """The value as it is, or None; the key counts as read."""
        self.seen.add(key)
        return self.values.get(key)

    def or_else(self, defaults: Mapping[str, Any]) -> Fields:
        """The same object, read with these values for absent keys; what is read there counts as read here."""
        return Fields({**defaults, **self.values}, self.where, self.seen)

    def instead(self, values: Mapping[str, Any]) -> Fields:
        """The same object with other values of some keys; what is read there counts as read here."""
        return Fields({**self.values, **values}, self.where, self.seen)

    def unread(self) -> dict[str, Any]:
        """What nobody asked for."""
        return {key: value for key, value in self.values.items() if key not in self.seen}

    def invalid(self, key: str, expected: str) -> CheckpointError:
        """The value is of the wrong kind."""
        found = f"{key} = {shorten(self.values.get(key))}"
        return CheckpointError("config.value_invalid", found, expected=expected, where=self.where)

    def unsupported(self, key: str, expected: str, remedy: str = "") -> CheckpointError:
        """The value is legal but asks for maths that is not built."""
        found = f"{key} = {shorten(self.values.get(key))} is not supported"
        return CheckpointError(
            "config.unsupported", found, expected=expected, where=self.where, remedy=remedy
        )

    def conflict(self, found: str, remedy: str = "keep the one that is right") -> CheckpointError:
        """Two keys contradict each other."""
        return CheckpointError("config.conflict", found, where=self.where, remedy=remedy)

    def _missing(self, key: str, expected: str) -> CheckpointError:
        return CheckpointError(
            "config.key_missing", f"{key} is missing", expected=expected, where=self.where
        )


def _is_positive(value: object) -> bool:
    """Whether it is a positive finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 < value <= sys.float_info.max


def shorten(value: object) -> str:
    """A value in an error message."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
