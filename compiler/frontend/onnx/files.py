"""Files of an ONNX model: regular files only, read by position; a file that changes under a compile is noticed."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from hearth.schemas.errors import CheckpointError


@dataclass(frozen=True, eq=False)
class ModelFile:
    """A regular file, as it was when it was first seen. It is opened for each read, so that any number can be known."""

    path: Path
    size: int
    mtime_ns: int

    @cached_property
    def where(self) -> str:
        """What messages call it."""
        return str(self.path)

    def read(self, offset: int, nbytes: int) -> bytearray:
        """`nbytes` from `offset`; fewer there, or a file changed meanwhile, is a CheckpointError."""
        target = bytearray(nbytes)
        self.read_into(memoryview(target), offset)
        return target

    def read_into(self, target: memoryview, offset: int) -> None:
        """Fill `target` from `offset`."""
        descriptor, status = _open(self.path)
        try:
            if (status.st_size, status.st_mtime_ns) != (self.size, self.mtime_ns):
                raise self._changed()
            while target:
                count = os.preadv(descriptor, [target[: 1 << 30]], offset)
                if count == 0:
                    raise self._changed()
                target, offset = target[count:], offset + count
        except OSError as error:
            raise _unreadable(self.path, error) from None
        finally:
            os.close(descriptor)

    def _changed(self) -> CheckpointError:
        return CheckpointError(
            "checkpoint.changed",
            "the file was changed while it was read",
            where=self.where,
            remedy="compile again once nothing writes to it",
        )


def find_model_file(path: Path) -> ModelFile:
    """The file of that name; no pipe and no device."""
    descriptor, status = _open(path)
    os.close(descriptor)
    return ModelFile(path, status.st_size, status.st_mtime_ns)


def _open(path: Path) -> tuple[int, os.stat_result]:
    """A regular file, opened without waiting."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise CheckpointError(
            "onnx.not_found", "no such file", where=str(path), remedy="correct the path"
        ) from None
    except OSError as error:
        raise _unreadable(path, error) from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise CheckpointError(
            "onnx.not_a_file", "no regular file", expected="an .onnx file", where=str(path)
        )
    return descriptor, status


def _unreadable(path: Path, error: OSError) -> CheckpointError:
    return CheckpointError(
        "checkpoint.unreadable",
        f"cannot be read: {error.strerror}",
        where=str(path),
        remedy="look at its permissions and at the disk",
    )
