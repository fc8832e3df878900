"""Reading the JSON files of a checkpoint: bytes or a CheckpointError that names the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hearth.schemas.errors import CheckpointError

MAX_BYTES = 256 << 20


def read_bytes(path: Path) -> bytes | None:
    """The content of a small file; None where there is none."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise CheckpointError(
                "checkpoint.file_too_large",
                f"{path.stat().st_size} bytes",
                expected=f"at most {MAX_BYTES}",
                where=str(path),
            )
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unreadable(path, error) from None


def unreadable(path: Path, error: OSError) -> CheckpointError:
    """The system refuses to read a file."""
    reason = f"cannot be read: {error.strerror or error}"
    remedy = "look at its permissions and at the disk"
    return CheckpointError("checkpoint.unreadable", reason, where=str(path), remedy=remedy)


def parse_json(content: bytes, path: Path) -> Any:
    """The JSON value in `content`."""
    try:
        return json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            "checkpoint.json_invalid",
            f"not JSON ({error})",
            where=str(path),
            remedy="fetch the file again, or correct what was edited",
        ) from None


def parse_object(content: bytes, path: Path) -> dict[str, Any]:
    """The JSON object in `content`."""
    values = parse_json(content, path)
    if not isinstance(values, dict):
        raise CheckpointError(
            "checkpoint.json_invalid",
            f"a {type(values).__name__}",
            expected="a JSON object",
            where=str(path),
        )
    return values


def read_object(path: Path, remedy: str = "fetch the whole checkpoint") -> dict[str, Any]:
    """The JSON object of a file that must exist."""
    content = read_bytes(path)
    if content is None:
        raise CheckpointError(
            "checkpoint.file_missing", "no such file", where=str(path), remedy=remedy
        )
    return parse_object(content, path)
