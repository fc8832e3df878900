"""The emulator of AMX against a numpy model of the instructions; with hardware, the model against the hardware."""

from __future__ import annotations

import signal
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray
from support.amx import (
    CONFIGURE,
    ON_HARDWARE,
    RCX,
    RDX,
    RELEASE,
    RSI,
    amx,
    death_of,
    dot,
    execute,
    instruction,
    load,
    move,
    store,
    zero,
)
from support.guard import guarded

Bytes = NDArray[np.uint8]
SIGNS = ((np.uint8, np.uint8), (np.uint8, np.int8), (np.int8, np.uint8), (np.int8, np.int8))
R8, R9 = 0, 1  # with a high bit


@pytest.fixture(autouse=True, scope="module")
def there() -> Iterator[None]:
    with amx():
        yield


def config(*shapes: tuple[int, int], palette: int = 1, start: int = 0) -> Bytes:
    """The 64 bytes of a configuration: (rows, bytes per row) of each tile."""
    out = np.zeros(64, np.uint8)
    out[:2] = palette, start
    for tile, (rows, nbytes) in enumerate(shapes):
        out[16 + 2 * tile : 18 + 2 * tile] = struct.unpack("2B", struct.pack("<H", nbytes))
        out[48 + tile] = rows
    return out


FULL = config(*[(16, 64)] * 8)


def at(array: NDArray[np.generic]) -> int:
    return int(array.ctypes.data)


def random_bytes(*shape: int, seed: int = 0) -> Bytes:
    return np.random.default_rng([seed, *shape]).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("signs", range(4), ids=["uu", "us", "su", "ss"])
@pytest.mark.parametrize(
    ("m", "n", "k"), [(16, 16, 16), (1, 1, 1), (3, 16, 16), (16, 5, 2), (7, 11, 13)]
)
def test_a_product_is_numpys(signs: int, m: int, n: int, k: int) -> None:
    """C[m, n] += A[m, 4k] x B[k, n, 4], sums modulo 2^32, neighbours of C untouched."""
    a, b = random_bytes(m, 4 * k), random_bytes(k, n, 4)
    c = random_bytes(m, 20, 4).view(np.int32)[:, :, 0].copy()
    of_a, of_b = SIGNS[signs]
    products = np.einsum(
        "mkj,knj->mn",
        a.view(of_a).reshape(m, k, 4).astype(np.int64),
        b.view(of_b).astype(np.int64),
    )
    expected = c.copy()
    expected[:, :n] = (c[:, :n] + products).astype(np.int32)
    found, shapes = c.copy(), config((m, 4 * n), (m, 4 * k), (k, 4 * n))
    strides = np.array([80, 4 * k, 4 * n])
    table = np.array([at(found), at(a), at(b)])
    for tile in range(3):  # one call each: tiles stay
        code = (CONFIGURE if tile == 0 else b"") + load(tile, RSI, RDX)
        execute(code, at(shapes), int(table[tile]), int(strides[tile]))
    execute(dot(signs, 0, 1, 2) + store(0, RSI, RDX) + RELEASE, 0, at(found), 80)
    assert np.array_equal(found, expected)


def test_tiles_by_every_kind_of_address() -> None:
    """base + displacement + row * (index << scale), registers above 7, no index, t1."""
    memory, out = random_bytes(4096), np.zeros((16, 64), np.uint8)
    expected = np.lib.stride_tricks.sliding_window_view(memory, 64)
    forms = {
        "plain": (load(1, RSI, RDX), 0, 100),
        "t1": (move(1, 1, RSI, RDX), 0, 100),
        "scale 2": (instruction(3, 0x4B, 1 << 3 | 4, bytes([1 << 6 | RDX << 3 | RSI])), 0, 200),
        "disp8": (instruction(3, 0x4B, 0x40 | 1 << 3 | 4, bytes([RDX << 3 | RSI, 33])), 33, 100),
        "disp32": (
            instruction(
                3, 0x4B, 0x80 | 1 << 3 | 4, bytes([RDX << 3 | RSI]) + struct.pack("<i", 300)
            ),
            300,
            100,
        ),
        "no index": (instruction(3, 0x4B, 1 << 3 | 4, bytes([4 << 3 | RSI])), 0, 0),
        "r8, r9": (instruction(3, 0x4B, 1 << 3 | 4, bytes([R9 << 3 | R8]), rxb=3), 0, 100),
    }
    for name, (code, offset, stride) in forms.items():
        arguments = (at(FULL), at(memory), 100, 64, at(memory), 100)
        execute(CONFIGURE + code, *arguments)
        execute(store(1, RSI, RDX) + RELEASE, 0, at(out), 64)
        rows = [offset + row * stride for row in range(16)]
        assert np.array_equal(out, expected[rows]), name


def test_negative_strides() -> None:
    memory, out = random_bytes(16, 64), np.zeros((16, 64), np.uint8)
    execute(CONFIGURE + load(7, RSI, RDX), at(FULL), at(memory[15]), -64 & (1 << 64) - 1)
    execute(store(7, RSI, RDX) + RELEASE, 0, at(out), 64)
    assert np.array_equal(out, memory[::-1])


def test_tiles_are_zero_after_configuring_and_zeroing() -> None:
    memory, out = random_bytes(16, 64), random_bytes(16, 64)
    load_all = CONFIGURE + b"".join(load(tile, RSI, RDX) for tile in range(8))
    for code, expected in (
        (load_all + zero(3), np.zeros_like(memory)),
        (load_all + zero(2), memory),
        (load_all + CONFIGURE, np.zeros_like(memory)),
    ):
        execute(code + store(3, RCX, RDX) + RELEASE, at(FULL), at(memory), 64, at(out))
        assert np.array_equal(out, expected)


def test_the_configuration_can_be_read_back() -> None:
    shapes, out = config((16, 64), (3, 20), (0, 0), (1, 4), start=5), random_bytes(64)
    read = instruction(1, 0x49, RSI)
    execute(CONFIGURE + read + RELEASE, at(shapes), at(out))
    assert np.array_equal(out, shapes)
    execute(RELEASE + read, 0, at(out))
    assert not out.any()
    execute(CONFIGURE + zero(0) + read + RELEASE, at(shapes), at(out))
    assert np.array_equal(out, config((16, 64), (3, 20), (0, 0), (1, 4)))


def test_an_interrupted_load_goes_on_at_its_row() -> None:
    memory, out = random_bytes(16, 64), np.zeros((16, 64), np.uint8)
    code = CONFIGURE + load(0, RSI, RDX) + store(0, RCX, RDX) + RELEASE
    execute(code, at(config((16, 64), start=5)), at(memory), 64, at(out))
    assert np.array_equal(out[5:], memory[5:])
    assert not out[:5].any()


def test_a_configuration_behind_the_code() -> None:
    """ldtilecfg [rip + n]."""
    out = np.zeros(64, np.uint8)
    rest = instruction(1, 0x49, RSI) + RELEASE + b"\xc3"
    code = instruction(0, 0x49, 5, struct.pack("<i", len(rest))) + rest
    execute(code + FULL.tobytes(), 0, at(out))
    assert np.array_equal(out, FULL)


def test_only_the_bytes_of_a_tile_are_touched() -> None:
    shapes = config((5, 12))
    rows = random_bytes(5, 12)
    memory, out = guarded(rows), guarded(np.zeros((5, 12), np.uint8))
    code = CONFIGURE + load(0, RSI, RDX) + store(0, RCX, RDX) + RELEASE
    execute(code, at(shapes), at(memory), 12, at(out))
    assert np.array_equal(out, rows)
    assert death_of(code, at(shapes), at(memory) + 1, 12, at(out))[0] == signal.SIGSEGV
    assert death_of(code, at(shapes), at(memory), 12, at(out) + 1)[0] == signal.SIGSEGV


def test_threads_have_tiles_of_their_own() -> None:
    def turn(pool: ThreadPoolExecutor, code: bytes, *arguments: int) -> None:
        pool.submit(execute, code, *arguments).result()

    memory, out = random_bytes(2, 16, 64), np.zeros((2, 16, 64), np.uint8)
    with ThreadPoolExecutor(1) as first, ThreadPoolExecutor(1) as second:
        for pool, data in zip((first, second), memory, strict=True):
            turn(pool, CONFIGURE + load(0, RSI, RDX), at(FULL), at(data), 64)
        for pool, data in zip((first, second), out, strict=True):
            turn(pool, store(0, RSI, RDX) + RELEASE, 0, at(data), 64)
    assert np.array_equal(out, memory)


def broken(index: int, value: int) -> Bytes:
    out = FULL.copy()
    out[index] = value
    return out


VIOLATIONS = {
    "#GP: no such palette": (CONFIGURE, broken(0, 2)),
    "#GP: reserved bytes": (CONFIGURE, broken(2, 1)),
    "#GP: bytes per row of a tile beyond": (CONFIGURE, broken(33, 1)),
    "#GP: rows of a tile beyond": (CONFIGURE, broken(63, 1)),
    "#GP: a tile's rows are above 64": (CONFIGURE, broken(16, 65)),
    "#GP: a tile has more than 16 rows": (CONFIGURE, broken(48, 17)),
    "#GP: a tile has rows or bytes alone": (CONFIGURE, broken(48, 0)),
    "#UD: no tiles are configured": (RELEASE + zero(0), FULL),
    "#UD: the tile is not configured": (CONFIGURE + zero(1), config((16, 64))),
    "#UD: a product needs three tiles": (CONFIGURE + dot(3, 0, 1, 1), FULL),
    "#UD: a product's rows are no multiple": (
        CONFIGURE + dot(3, 0, 1, 2),
        config((16, 64), (16, 62), (16, 64)),
    ),
    "#UD: rows of the first source": (
        CONFIGURE + dot(3, 0, 1, 2),
        config((16, 64), (15, 64), (16, 64)),
    ),
    "#UD: rows of the second source": (
        CONFIGURE + dot(3, 0, 1, 2),
        config((16, 64), (16, 60), (16, 64)),
    ),
    "#UD: columns of the second source": (
        CONFIGURE + dot(3, 0, 1, 2),
        config((16, 64), (16, 64), (16, 60)),
    ),
    "#UD: a tile's memory operand needs a SIB": (CONFIGURE + instruction(3, 0x4B, RSI), FULL),
    "#UD: no such tile": (CONFIGURE + instruction(3, 0x49, 0xC0, rxb=4), FULL),
    "#UD: VEX.W": (CONFIGURE + b"\xc4\xe2\xfb\x49\xc0", FULL),
    "#UD: VEX.L": (CONFIGURE + b"\xc4\xe2\x7f\x49\xc0", FULL),
    "#UD: VEX.vvvv": (CONFIGURE + instruction(3, 0x49, 0xC0, source=3), FULL),
}


@pytest.mark.parametrize("what", VIOLATIONS)
def test_what_the_cpu_refuses_ends_the_process(what: str) -> None:
    code, shapes = VIOLATIONS[what]
    died_of, said = death_of(code, at(shapes), at(shapes), 64)
    if ON_HARDWARE:
        assert died_of in (signal.SIGILL, signal.SIGSEGV)
    else:
        assert died_of == signal.SIGABRT
        assert f"AMX emulator: {what}" in said


def test_other_illegal_instructions_stay_illegal() -> None:
    assert death_of(b"\x0f\x0b")[0] == signal.SIGILL
