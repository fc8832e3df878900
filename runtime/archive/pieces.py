"""Writes one after the other, in pieces that begin and end where huge pages do.

The page cache keeps what one call writes in folios no larger than the call. One of 2 MiB is mapped by a single
entry, and through such pages an archive just made is read.
"""

from __future__ import annotations

from hearth.runtime.archive.files import Files


class Pieces:
    """Bytes from `offset` on; up to a piece of them waits for the next write or `flush`."""

    def __init__(self, descriptor: int, files: Files, offset: int) -> None:
        self._descriptor, self._files, self._piece = descriptor, files, files.piece
        self._offset = offset  # in the file, of what waits
        self._waiting = bytearray()

    def write(self, view: memoryview) -> None:
        """Goes on where the last write ended; what fills whole pieces is written from where it lies."""
        while view.nbytes:
            whole = view.nbytes // self._piece * self._piece
            if whole and not self._waiting and self._offset % self._piece == 0:
                self._put(view[:whole])
                view = view[whole:]
                continue
            room = self._piece - (self._offset + len(self._waiting)) % self._piece
            self._waiting += view[:room]
            view = view[room:]
            if (self._offset + len(self._waiting)) % self._piece == 0:
                self.flush()

    def flush(self) -> None:
        """Writes what waits."""
        if self._waiting:
            waiting, self._waiting = self._waiting, bytearray()
            self._put(memoryview(waiting))

    def _put(self, view: memoryview) -> None:
        self._files.pwrite(self._descriptor, view, self._offset)
        self._offset += view.nbytes
