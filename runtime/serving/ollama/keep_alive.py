"""How long a model stays loaded after a request: durations such as "5m", seconds, 0 for none and less for ever."""

from __future__ import annotations

import math
import re
import sys
from typing import Any

from hearth.runtime.serving.ollama.fields import refused
from hearth.runtime.serving.refusals import Refusal

UNITS_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
WHOLE = re.compile(rf"([+-]?)((?:{PART.pattern})+)")
BARE = re.compile(r"[+-]?\d+(?:\.\d+)?")


def seconds_of(value: Any) -> float | None:
    """Seconds of the field `keep_alive`; infinity for a negative one, None where it is left to the server."""
    if value is None or value == "":
        return None
    found = _text_s(value) if isinstance(value, str) else _number_s(value)
    return math.inf if found < 0 else found


def _number_s(value: Any) -> float:
    if type(value) not in (int, float) or value != value:
        raise _refused(value)
    return float(max(-1, min(value, sys.float_info.max)))  # JSON's integers may be larger


def _text_s(text: str) -> float:
    """Go's form of a duration ("1h30m", "-1s"), or a bare number of seconds."""
    if BARE.fullmatch(text):
        return float(text)
    whole = WHOLE.fullmatch(text)
    if whole is None:
        raise _refused(text)
    total = sum(float(number) * UNITS_S[unit] for number, unit in PART.findall(whole[2]))
    return -total if whole[1] == "-" else total


def _refused(value: Any) -> Refusal:
    return refused("keep_alive", f"is {value!r:.40}", 'a duration such as "5m", or seconds')
