"""The body of a request as a JSON object, within limits of size and time."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable
from typing import Any, NoReturn

from starlette.requests import ClientDisconnect, Request

from hearth.runtime.serving.refusals import Refusal

JSON = "application/json"
HALF_PAIR = re.compile(r"\\u[dD][89a-fA-F]")  # which may be a half of a whole one
DEEPEST = 700  # objects and arrays within each other
# A body above the limit is read on to here and thrown away: clients that are cut off while they write do not see
# the answer.
DISCARDED_NBYTES = 64 << 20


async def read_object(request: Request, *, any_type: bool = False) -> dict[str, Any]:
    """The JSON object of a request.

    Refusal 400 for what is no JSON object in UTF-8, 408 for a body that does not come within the server's
    time, 413 for one above its size, 415 for another content type (unless `any_type`).
    """
    if not any_type:
        _check_type(request)
    data = await read_body(request)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise _invalid(f"the body is not UTF-8 at byte {error.start}") from None
    try:
        found = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise _invalid(f"the body is not JSON: {error or 'nested too deeply'}") from None
    if not isinstance(found, dict):
        raise _invalid("the body is not a JSON object")
    _check_depth(text, found)
    if HALF_PAIR.search(text):
        _check_unicode(found)
    return found


def _check_depth(text: str, found: dict[str, Any]) -> None:
    """Whatever walks through the body later may do so by recursion."""
    if text.count("[") + text.count("{") <= DEEPEST:
        return
    level: list[Any] = [found]
    for _ in range(DEEPEST):
        level = [inner for each in level for inner in _inside(each)]
    if level:
        raise _invalid(f"the body is nested more than {DEEPEST} deep")


def _inside(value: Any) -> Iterable[Any]:
    """The objects and arrays right inside one."""
    values = value.values() if isinstance(value, dict) else value
    return (each for each in values if isinstance(each, dict | list))


def _check_unicode(found: dict[str, Any]) -> None:
    """JSON can name a half of a surrogate pair, which is no character and which UTF-8 cannot hold."""
    try:
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise _invalid("the body holds half of a surrogate pair, which is no text") from None


async def read_body(request: Request) -> bytes:
    """All of the body: Refusal 408 or 413 as above."""
    limits = request.app.state.limits
    parts, nbytes = [], 0
    try:
        async with asyncio.timeout(limits.body_s):
            async for part in request.stream():
                nbytes += len(part)
                if nbytes <= limits.body_nbytes:
                    parts.append(part)
                elif nbytes > limits.body_nbytes + DISCARDED_NBYTES:
                    break
    except TimeoutError:
        raise Refusal(
            408,
            f"the body did not come within {limits.body_s:g} seconds",
            code="timeout",
            headers={"connection": "close"},
        ) from None
    except ClientDisconnect:
        raise Refusal(400, "the body did not come to its end", code="incomplete_body") from None
    if nbytes > limits.body_nbytes:
        raise too_large(limits.body_nbytes)
    return b"".join(parts)


def too_large(nbytes: int) -> Refusal:
    """The answer to a body above the limit."""
    return Refusal(
        413,
        f"the body is larger than {nbytes} bytes, the limit of this server (--max-body)",
        code="body_too_large",
        headers={"connection": "close"},
    )


def _check_type(request: Request) -> None:
    given = request.headers.get("content-type", JSON).partition(";")[0].strip().lower()
    if given != JSON:
        raise Refusal(
            415, f"the content type is {given!r}, expected {JSON}", code="unsupported_media_type"
        )


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _invalid(message: str) -> Refusal:
    return Refusal(400, message, code="invalid_json")
