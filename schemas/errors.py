"""The one family of user errors: stable codes, exit codes, and a message a person can act on."""

from __future__ import annotations


class HearthError(Exception):
    """What was found, what was expected, where, and what to do.

    `code` is stable and documented in docs/errors.md; the command line prints the message without a
    traceback and leaves with `exit_code`. A bug is any other exception and keeps its traceback.
    """

    exit_code = 1

    def __init__(
        self,
        code: str,
        found: str,
        *,
        expected: str = "",
        where: str = "",
        remedy: str = "",
    ) -> None:
        self.code, self.found, self.expected = code, found, expected
        self.where, self.remedy = where, remedy
        super().__init__(self._message())

    def _message(self) -> str:
        head = f"{self.where}: {self.found}" if self.where else self.found
        parts = [head]
        if self.expected:
            parts.append(f"expected {self.expected}")
        if self.remedy:
            parts.append(self.remedy)
        return "; ".join(parts) + f" [{self.code}]"


class UsageError(HearthError):
    """The command or the call is wrong (arguments, recipe)."""

    exit_code = 2


class CheckpointError(HearthError):
    """The source model cannot be compiled as it is."""

    exit_code = 3


class ArchiveError(HearthError):
    """The archive is damaged, of another version, or asks for what this runtime lacks."""

    exit_code = 4


class InputError(HearthError):
    """The prompt or the token ids cannot be processed (out of range, context full)."""

    exit_code = 5


class ResourceError(HearthError):
    """Memory, disk or file permissions do not suffice."""

    exit_code = 6


class MissingError(HearthError):
    """An optional part is not installed."""

    exit_code = 7


class LimitError(HearthError):
    """A limit that was asked for is missed (accuracy, differences between archives, regressions)."""

    exit_code = 8


def reason(error: Exception) -> str:
    """Why a file could not be read, in words: neither its name, which `where` has, nor a number."""
    if isinstance(error, UnicodeDecodeError):
        return f"is not UTF-8 at byte {error.start}"
    return f"cannot be read: {getattr(error, 'strerror', None) or error}"
