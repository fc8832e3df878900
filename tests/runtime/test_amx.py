"""AMX over whole models: the same bits as the other instruction sets; absent where the kernel refuses it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from support.amx import amx
from support.data import checkpoint
from support.lora import write_peft

from hearth.compiler.lora.add import add_adapter
from hearth.runtime import AdapterUse, Model, Turn, load, native, step
from hearth.runtime.archive import open_archive

if TYPE_CHECKING:
    from conftest import Archives


@pytest.mark.parametrize("scheme", [{"weights": "int4"}, {"weights": "int8"}], ids=str)
@pytest.mark.parametrize("name", ["stories260K", "hearthside"])
def test_a_model_gives_the_same_bits(
    archives: Archives, name: str, scheme: dict[str, object]
) -> None:
    """Every row of logits, in chunks that are multiples of a tile's rows and that are not, on 1 to 3 threads."""
    if name == "stories260K":
        checkpoint(name)
    path = archives(name, **scheme)
    with amx():
        assert native.isas()[-1] == "amx"
        for threads, chunk in ((1, 128), (2, 33), (3, 16), (2, 5)):
            found = rows(path, threads, "amx", chunk)
            assert np.array_equal(found, rows(path, 2, "avx512vnni", 128)), (threads, chunk)


def test_an_archive_for_amx_runs_everywhere(archives: Archives) -> None:
    """Its chunks are larger, its rows of logits those of every other target and instruction set."""
    path = archives("hearthside", weights="int4", target="x86-64-amx")
    expected = rows(archives("hearthside", weights="int4"), 2, "portable", 128)
    assert load(path).chunk == 256
    with amx():
        for isa in native.isas():
            assert np.array_equal(rows(path, 2, isa, 200), expected), isa


def test_rows_with_adapters_and_without_give_the_same_bits(
    archives: Archives, tmp_path: Path
) -> None:
    path = tmp_path / "adapted.har"
    path.write_bytes(archives("hearthside", weights="int4").read_bytes())
    source = Path(__file__).parents[2] / "models/hearthside"
    add_adapter(open_archive(path), "poet", write_peft(tmp_path / "poet", source))
    with amx():
        found = [_mixed_rows(load(path, threads=2, isa=isa)) for isa in ("amx", "avx512vnni")]
    assert np.array_equal(*found)
    assert not np.array_equal(found[0][0], found[0][1])


def _mixed_rows(model: Model) -> list[np.ndarray]:
    """The same 30 tokens with an adapter, without and with a part of it, in one run."""
    uses = [AdapterUse("poet"), None, AdapterUse("poet", 0.4)]
    ids = list(range(4, 34))
    return step([Turn(model.session(adapter=use), ids) for use in uses])


def rows(path: Path, threads: int, isa: str, chunk: int) -> np.ndarray:
    """logits[T, V] of random ids."""
    model = load(path, threads=threads, isa=isa)
    names = {name for number in (0, 1) for name in model.engine.kernel_names(number)}
    assert any(name.startswith("linear_q8") and name.endswith(isa) for name in names)
    ids = np.random.default_rng(3).integers(0, model.vocab, 150).astype(np.int32)
    state, logits = model.new_state(), np.empty((len(ids), model.vocab), np.float32)
    for start in range(0, len(ids), chunk):
        part = slice(start, start + chunk)
        model.run(state, "prefill", ids[part], start, logits[part])
    return logits


def test_an_isa_that_no_emulator_brings_cannot_be_assumed() -> None:
    with pytest.raises(ValueError, match="unknown ISA"):
        native.assume_isa("sse9")
    with pytest.raises(ValueError, match="cannot be assumed"):
        native.assume_isa("avx2")


REFUSED = """
import ctypes, struct
ARCH_PRCTL, REQUEST = 158, 0x1023
def step(code, k, yes=0, no=0):
    return struct.pack("HBBI", code, yes, no, k)
program = b"".join([
    step(0x20, 0),                     # the system call's number
    step(0x15, ARCH_PRCTL, 0, 3),
    step(0x20, 16),                    # its first argument
    step(0x15, REQUEST, 0, 1),
    step(0x06, 0x00050001),            # EPERM
    step(0x06, 0x7FFF0000),            # allowed
])
memory = ctypes.create_string_buffer(program)
class Program(ctypes.Structure):
    _fields_ = [("size", ctypes.c_ushort), ("steps", ctypes.c_void_p)]
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0                       # no new privileges
filter = Program(len(program) // 8, ctypes.addressof(memory))
assert libc.prctl(22, 2, ctypes.byref(filter), 0, 0) == 0    # seccomp
libc.syscall.argtypes = [ctypes.c_long] * 3
assert libc.syscall(ARCH_PRCTL, REQUEST, 18) == -1 and ctypes.get_errno() == 1
import sys
from hearth.compiler.lora.add import add_adapter
from hearth.runtime import AdapterUse, Model, Turn, load, native, step
from hearth.runtime.archive import open_archive
print(*native.isas(), load(sys.argv[1]).isa)
"""


def test_without_permission_there_is_no_amx(archives: Archives) -> None:
    """The kernel refuses the state of tiles: the next instruction set serves. (Without tiles, that is so anyway.)"""
    path = archives("tiny", weights="int4")
    done = subprocess.run(
        [sys.executable, "-c", REFUSED, path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    expected = [isa for isa in native.isas() if isa != "amx"]
    assert done.stdout.split() == [*expected, expected[-1]]
