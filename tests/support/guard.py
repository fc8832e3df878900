"""Arrays that end on a page no one may touch: a kernel that reads or writes beyond them dies."""

from __future__ import annotations

import ctypes
import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LIBC = ctypes.CDLL(None, use_errno=True)
_PAGE = mmap.PAGESIZE


def guarded(array: NDArray[Any], align: int = 1) -> NDArray[Any]:
    """A copy whose last byte is the last one before a page without access, or as near as `align` lets it."""
    flat = np.ascontiguousarray(array)
    pages = -(-max(flat.nbytes, 1) // _PAGE)
    memory = mmap.mmap(-1, (pages + 1) * _PAGE)
    view = np.frombuffer(memory, np.uint8)  # keeps the mapping alive
    if _LIBC.mprotect(ctypes.c_void_p(view.ctypes.data + pages * _PAGE), _PAGE, 0) != 0:
        raise OSError(ctypes.get_errno(), "mprotect")
    start = (pages * _PAGE - flat.nbytes) // align * align
    out = view[start : start + flat.nbytes].view(flat.dtype).reshape(flat.shape)
    out[...] = flat
    return out
