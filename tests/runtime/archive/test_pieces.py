"""What is written lands whole and in order, in pieces aligned for huge pages."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hearth.runtime.archive.files import SystemFiles
from hearth.runtime.archive.pieces import Pieces

PIECE = 8


class Recorded(SystemFiles):
    piece = PIECE

    def __init__(self) -> None:
        self.writes: list[tuple[int, bytes]] = []

    def pwrite(self, descriptor: int, data: memoryview, offset: int) -> None:
        self.writes.append((offset, bytes(data)))


@given(st.integers(0, 20), st.lists(st.binary(max_size=40)))
def test_all_bytes_in_order_and_aligned(offset: int, chunks: list[bytes]) -> None:
    files = Recorded()
    pieces = Pieces(0, files, offset)
    for chunk in chunks:
        pieces.write(memoryview(chunk))
    pieces.flush()
    end = offset
    for at, data in files.writes:
        assert at == end
        end += len(data)
    assert b"".join(data for _, data in files.writes) == b"".join(chunks)
    for at, data in files.writes[:-1]:
        assert (at + len(data)) % PIECE == 0


def test_whole_pieces_are_written_from_where_they_lie() -> None:
    files = Recorded()
    pieces = Pieces(0, files, 0)
    pieces.write(memoryview(bytes(3 * PIECE + 1)))
    assert [len(data) for _, data in files.writes] == [3 * PIECE]
    pieces.write(memoryview(bytes(PIECE)))
    pieces.flush()
    assert [len(data) for _, data in files.writes] == [3 * PIECE, PIECE, 1]
