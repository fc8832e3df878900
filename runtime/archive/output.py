"""A file that appears under its name only when it is whole.

Where the filesystem has O_TMPFILE the bytes have no name until the end, so that even SIGKILL leaves
nothing; elsewhere they grow in `.<name>.<random>.partial` beside the output, which any failure but
SIGKILL or a power cut removes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import threading
from pathlib import Path

from hearth.runtime.archive.files import sync_directory

NO_TMPFILE = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT, errno.ENOSYS})


class Output:
    """An open file without its name; publish() gives it the name, discard() forgets it."""

    def __init__(self, path: Path, unnamed: bool = True) -> None:
        self.path = Path(os.path.realpath(path))  # a link stays a link, its file is replaced
        self.descriptor = -1
        self._partial: Path | None = None
        try:
            self._open(unnamed)
        except BaseException:
            self.discard()
            raise

    @property
    def place(self) -> Path:
        """Where the bytes can be found until they have their name; the name itself where nowhere."""
        return self._partial or self.path

    def publish(self) -> None:
        """Puts the synced file in the place of `path`, atomically, and closes it.

        The blocks of the file that was there are freed afterwards, by a thread: that takes as long as writing some.
        """
        replaced = _opened(self.path)
        try:
            self._rename()
        finally:
            if replaced is not None:
                threading.Thread(target=os.close, args=(replaced,)).start()
        self._close()
        sync_directory(self.path.parent)

    def _rename(self) -> None:
        if self._partial is None and not self._link(self.path):
            self._partial = self._sibling()
            if not self._link(self._partial):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        if self._partial is not None:
            os.replace(self._partial, self.path)
            self._partial = None

    def discard(self) -> None:
        """Closes the file and leaves nothing of it; harmless after publish()."""
        self._close()
        if self._partial is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._partial)
            self._partial = None

    def _open(self, unnamed: bool) -> None:
        if self.path.exists() and not self.path.is_file():
            raise OSError(errno.EINVAL, "it exists and is no regular file")
        descriptor = self._open_unnamed() if unnamed else None
        self.descriptor = self._open_partial() if descriptor is None else descriptor

    def _open_unnamed(self) -> int | None:
        flags = getattr(os, "O_TMPFILE", None)
        if flags is None or not os.path.isdir("/proc/self/fd"):
            return None
        try:
            return os.open(self.path.parent, flags | os.O_RDWR | os.O_CLOEXEC, 0o666)
        except OSError as error:
            if error.errno in NO_TMPFILE and self.path.parent.is_dir():
                return None
            raise

    def _open_partial(self) -> int:
        self._partial = self._sibling()
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        return os.open(self._partial, flags, 0o666)

    def _sibling(self) -> Path:
        return self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}.partial")

    def _link(self, name: Path) -> bool:
        """Names the unnamed file; False where the name is taken."""
        source = f"/proc/self/fd/{self.descriptor}"
        folder = os.open(name.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:  # a directory descriptor makes Python call linkat, which can follow the link in /proc
            os.link(source, name.name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=True)
        except FileExistsError:
            return False
        finally:
            os.close(folder)
        return True

    def _close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def _opened(path: Path) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
