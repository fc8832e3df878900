"""What goes wrong with a request, as a status and words; how these are written is the surface's (OpenAI, Ollama)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from types import MappingProxyType

from hearth.schemas.errors import (
    ArchiveError,
    HearthError,
    InputError,
    MissingError,
    ResourceError,
    UsageError,
)

LOG = logging.getLogger("hearth.serve")
RETRY_AFTER_S = 1
# Error codes with a status of their own; the rest has that of its family.
STATUS_OF_CODE: Mapping[str, int] = MappingProxyType(
    {
        "serve.model_unknown": 404,
        "resource.queue_full": 429,
        "resource.closing": 503,
    }
)
STATUS_OF_FAMILY: Mapping[type[HearthError], int] = MappingProxyType(
    {
        UsageError: 400,
        InputError: 400,
        ArchiveError: 500,
        ResourceError: 503,
        MissingError: 501,
    }
)
# Kinds of error as OpenAI names them, by status.
KINDS: Mapping[int, str] = MappingProxyType(
    {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
)


class Refusal(Exception):
    """A request that is answered with an error; `parameter` is the field that is wrong ("messages[0].role")."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        parameter: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message = status, message
        self.parameter, self.code = parameter, code
        self.headers = dict(headers or {})

    @property
    def kind(self) -> str:
        """OpenAI's `type` of the error."""
        usual = "invalid_request_error" if self.status < 500 else "server_error"
        return KINDS.get(self.status, usual)


def refusal(error: HearthError, parameter: str | None = None) -> Refusal:
    """The answer to an error of the runtime; `parameter` is the field that it is about."""
    status = http_status(error)
    headers = {"retry-after": str(RETRY_AFTER_S)} if status in (429, 503) else {}
    return Refusal(status, str(error), parameter=parameter, code=error.code, headers=headers)


def as_refusal(error: Exception, request_id: str) -> Refusal:
    """What a stream that has begun says of an error; a bug goes into the log with its traceback."""
    match error:
        case Refusal():
            return error
        case HearthError():
            return refusal(error)
    LOG.error("request %s failed: this is a bug, please report it", request_id, exc_info=error)
    return Refusal(500, f"an internal error; its log entry is {request_id}", code="bug")


def http_status(error: HearthError) -> int:
    """The status of an error, by its code or else by its family."""
    families = (status for family, status in STATUS_OF_FAMILY.items() if isinstance(error, family))
    return STATUS_OF_CODE.get(error.code) or next(families, 500)
