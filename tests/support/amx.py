"""AMX for tests: the CPU's own instructions, or an emulator of them (amx_emulator.cc), and bytes of both to run."""

from __future__ import annotations

import ctypes
import faulthandler
import mmap
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

from hearth.runtime import native

SOURCE = Path(__file__).parent / "amx_emulator.cc"
ON_HARDWARE = "amx" in native.isas()


@cache
def emulator() -> ctypes.CDLL | None:
    """The emulator, serving this process from now on; None where the hardware does."""
    if ON_HARDWARE:
        return None
    compiler = shutil.which("c++")
    if "avx512vnni" not in native.isas() or compiler is None:
        pytest.skip("AMX is emulated on CPUs with avx512vnni, where there is a C++ compiler")
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "amx_emulator.so"
        flags = ("-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC")
        subprocess.run([compiler, *flags, "-o", library, SOURCE], check=True)
        loaded = ctypes.CDLL(str(library))
    assert loaded.install() == 0
    loaded.instructions.restype = ctypes.c_uint64
    return loaded


@contextmanager
def amx() -> Iterator[None]:
    """Within, "amx" is one of native.isas()."""
    if emulator() is None:
        yield
        return
    native.assume_isa("amx")
    try:
        yield
    finally:
        native.assume_isa("amx", False)


def instruction(
    prefix: int, opcode: int, modrm: int, tail: bytes = b"", *, source: int = 0, rxb: int = 0
) -> bytes:
    """VEX.128.<none 66 F3 F2>.0F38.W0 opcode /r; `source` is VEX.vvvv, `rxb` the high bits of reg, index and rm."""
    return bytes([0xC4, (~rxb & 7) << 5 | 2, (~source & 15) << 3 | prefix, opcode, modrm]) + tail


RET = b"\xc3"
RDI, RSI, RDX, RCX = 7, 6, 2, 1  # the first arguments of a function
CONFIGURE = instruction(0, 0x49, RDI)
RELEASE = instruction(0, 0x49, 0xC0)


def move(prefix: int, tile: int, base: int, index: int) -> bytes:
    """A tile from (3: tileloadd, 1: tileloaddt1) or to (2: tilestored) base + row * index."""
    return instruction(prefix, 0x4B, tile << 3 | 4, bytes([index << 3 | base]))


def load(tile: int, base: int, index: int) -> bytes:
    return move(3, tile, base, index)


def store(tile: int, base: int, index: int) -> bytes:
    return move(2, tile, base, index)


def dot(prefix: int, sums: int, a: int, b: int) -> bytes:
    """0: unsigned x unsigned, 1: unsigned x signed, 2: signed x unsigned, 3: signed x signed."""
    return instruction(prefix, 0x5E, 0xC0 | sums << 3 | a, source=b)


def zero(tile: int) -> bytes:
    return instruction(3, 0x49, 0xC0 | tile << 3)


def execute(code: bytes, *arguments: int) -> None:
    """Machine code in a page of its own, called with up to six integers in rdi, rsi, rdx, rcx, r8, r9."""
    with mmap.mmap(
        -1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
    ) as page:
        page.write(code + RET)
        start = ctypes.c_char.from_buffer(page)
        function = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * len(arguments))
        function(ctypes.addressof(start))(*arguments)
        del start


def death_of(code: bytes, *arguments: int) -> tuple[int, str]:
    """The signal that ends a process which executes the code (0 for none), and what it said."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(write_end, 2)
        if faulthandler.is_enabled():
            faulthandler.enable(2)
        execute(code, *arguments)
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0, said
