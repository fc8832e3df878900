"""The native core, built from runtime/kernels."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

class Kernel:
    """One row of the kernel table (runtime/kernels/kernel.h)."""

    name: str
    opcode: int
    variant: int
    x_is_q8: bool
    isa: str
    exact: bool

def isas() -> list[str]:
    """ISAs this CPU has, slowest first: "portable", "avx2", "avx512vnni", "amx"."""

def assume_isa(name: str, there: bool = True) -> None:
    """For tests with an emulator alone: take "amx" for an ISA this CPU has, or (`there` false) as it is.

    Its kernels then run, and die of SIGILL where nothing emulates their instructions. ValueError for other names
    and where the CPU lacks avx512vnni. Not while an engine runs.
    """

def contracts() -> dict[str, int]:
    """Opcode of each contract name, as compiled in."""

_OperandSpec = tuple[str, str, tuple[str, ...], bool]

def contract_specs() -> dict[
    str, tuple[tuple[_OperandSpec, ...], tuple[str, ...], tuple[str, ...], bool, tuple[str, ...]]
]:
    """Of each contract its operands (name, role, kinds, optional), ints, floats, by_segment and fixed floats."""

def allocations() -> int:
    """How often this module has allocated memory; a run adds nothing."""

def kernels() -> list[Kernel]:
    """The whole table, rows of ISAs this CPU lacks included."""

def call(
    kernel: str,
    operands: Sequence[NDArray[Any] | None],
    strides: Sequence[int],
    ints: Sequence[int],
    floats: Sequence[float],
    *,
    rows: int,
    tokens: int,
    position: int = 0,
    threads: int = 1,
) -> None:
    """Run one kernel by name over arrays, all `threads` shares one after the other (tests, benchmarks)."""

MAX_SEGMENTS: int
"""Segments that one run takes at most."""

class Mapping:
    """The first bytes of an open file, mapped read-only where huge pages of the page cache can be mapped whole.

    OSError where the system refuses. The array of it keeps it; the file may be closed.
    """

    def __init__(self, descriptor: int, nbytes: int) -> None: ...
    def array(self) -> NDArray[np.uint8]:
        """u8[nbytes], read-only, over the mapping itself."""

    def populate(self, offset: int, nbytes: int) -> None:
        """Read and map a part now. Releases the GIL, as do the two that follow."""

    def lock(self) -> None:
        """Keep all of it in memory (mlock)."""

    def forget(self) -> None:
        """Let go of the pages that no other process maps: they are read anew, into huge pages if there are."""

    @property
    def sees_the_cache(self) -> bool:
        """Whether the system tells what of the file is cached; else it says all is."""

class State:
    """The KV region of one session, zeroed; pages are touched on first use."""

    def __init__(self, kv_nbytes: int) -> None: ...
    def array(self) -> NDArray[np.uint8]:
        """u8[kv_nbytes] over the region itself, which it keeps; not while a run of the session writes it."""

class Adapter:
    """An adapter bound to an engine (Engine.adapter), over data that it keeps."""

Segment = tuple[State, int, int, int]
AdaptedSegment = tuple[State, int, int, int, Adapter | None, float]

class Engine:
    """All entries bound to kernels over one mapped weights region; its pool, arena and scratch.

    `isa` is the highest ISA to use. One run at a time (a lock); several states may take turns.
    """

    def __init__(
        self,
        weights: NDArray[np.uint8],
        arena_nbytes: int,
        io_nbytes: int,
        kv_nbytes: int,
        threads: int,
        isa: str,
    ) -> None: ...
    def add_entry(
        self,
        max_tokens: int,
        max_logits: int,
        inputs: Sequence[tuple[int, int, int]],
        outputs: Sequence[tuple[int, int, int]],
    ) -> int:
        """A port is (offset in io, columns or 0 for i32 ids, rows: a count, -1 for T, -2 for R)."""

    def add_command(
        self,
        entry: int,
        opcode: int,
        rows: int,
        operands: Sequence[tuple[int, int, int] | None],
        ints: Sequence[int],
        floats: Sequence[float],
    ) -> None:
        """rows: a count, -1 for T, -2 for R; an operand is (region, offset, stride)."""

    def finish(self) -> None:
        """Choose kernels, allocate arena, io and scratch: the last allocation before the engine is dropped."""

    def run(
        self,
        state: State,
        entry: int,
        tokens: int,
        position: int,
        inputs: list[NDArray[Any]],
        outputs: list[NDArray[np.float32]],
        adapter: Adapter | None = None,
        scale: float = 1.0,
    ) -> None:
        """Run an entry on T = `tokens` rows at `position`: an array i32[rows] or f32[rows, columns] for each input
        port, and one f32[rows, columns] to fill for each output port (R may be 0). Releases the GIL."""

    def adapter(
        self,
        data: NDArray[np.uint8],
        form: int,
        parts: Sequence[tuple[int, int, int, int, int, int]],
    ) -> Adapter:
        """Low-rank products for runs of this engine: `form` 0 int8, 1 f16, 2 f32; a part is (offset of the weight,
        ranks, layout of A, offsets of A, bias or -1, B) of schemas/lora.py. ValueError for what leaves the data."""

    def run_segments(
        self,
        entry: int,
        segments: Sequence[Segment | AdaptedSegment],
        inputs: list[NDArray[Any]],
        outputs: list[NDArray[np.float32]],
    ) -> None:
        """Run an entry on rows of several sequences, segment after segment: (state, tokens, position, rows), perhaps
        with (adapter, scale).

        T is the sum of the segments' tokens, R of their rows (logits for the last of each segment's tokens); an
        output of one row has one for each segment; every state is another one. A row's bits are those of a run of
        its segment alone. Releases the GIL."""

    def map_cached(self) -> None:
        """Until the first run, map in a thread what the page cache holds of the weights; nothing is read."""

    def place(self, entry: int, cores: Sequence[Sequence[int]], asked: bool) -> None:
        """The cores of each thread in the runs of an entry; an empty list for wherever the caller may be.

        What was not asked for gives way in a run whose caller may not use all of these cores. Waits for a run.
        """

    def placement(self, entry: int) -> tuple[list[list[int]], bool]:
        """What `place` was given."""

    def whereabouts(self, entry: int) -> list[tuple[list[int], list[int]]]:
        """Of each thread, read back from the kernel: the cores it was allowed at the end of the entry's last run,
        and those on which it was at the end of any."""

    @property
    def isa(self) -> str: ...
    @property
    def threads(self) -> int: ...
    def one_sequence(self, entry: int) -> bool:
        """Whether runs of the entry take one segment alone; known after finish()."""

    def kernel_names(self, entry: int) -> list[str]:
        """The kernel chosen for each command."""

    def start_profile(self) -> None:
        """From now on runs note when each thread began and ended each command (after finish())."""

    def read_stamps(self, entry: int, out: NDArray[np.int64]) -> None:
        """Fill out[threads, commands, 2] with the last run's begins and ends in ns of the monotonic clock; zeros for a
        command that had no rows."""

def rtn_int4(
    weights: NDArray[np.float32],
    group: int,
    codes: NDArray[np.int8],
    multipliers: NDArray[np.int8],
    scale: NDArray[np.float32],
    threads: int,
) -> None:
    """Round-to-nearest int4 with signed integer group multipliers; fills codes, multipliers, scale."""

def rtn_int8(
    weights: NDArray[np.float32], codes: NDArray[np.int8], scale: NDArray[np.float32], threads: int
) -> None:
    """Round-to-nearest int8 per channel (codes -127..127); fills codes, scale."""

def search_steps(
    weights: NDArray[np.float32],
    importance: NDArray[np.float32],
    values: NDArray[np.int8],
    lowest: int,
    reach: float,
    bf16: bool,
    group: int,
    factors: NDArray[np.float32],
    clips: NDArray[np.float32],
    multipliers: NDArray[np.int8],
    scale: NDArray[np.float32],
    threads: int,
) -> None:
    """Multipliers and scales of channels [N, K] over a grid, into the last two arrays."""

def nearest_levels(
    weights: NDArray[np.float32],
    values: NDArray[np.int8],
    lowest: int,
    group: int,
    multipliers: NDArray[np.int8],
    scale: NDArray[np.float32],
    levels: NDArray[np.int8],
    threads: int,
) -> None:
    """The nearest level of each weight, into the last array."""

def level_codes(
    levels: NDArray[np.int8],
    nearest: NDArray[np.uint8],
    lowest: int,
    first: int,
    group: int,
    multipliers: NDArray[np.int8],
    threads: int,
) -> None:
    """Levels become codes, in place."""

def feedback(
    weights: NDArray[np.float32],
    values: NDArray[np.int8],
    lowest: int,
    group: int,
    multipliers: NDArray[np.int8],
    scale: NDArray[np.float32],
    order: NDArray[np.int32],
    factor: NDArray[np.float32],
    levels: NDArray[np.int8],
    threads: int,
) -> None:
    """GPTQ's levels of channels [N, K], into the last array."""

def descend(
    weights: NDArray[np.float32],
    values: NDArray[np.int8],
    lowest: int,
    reach: float,
    bf16: bool,
    group: int,
    multipliers: NDArray[np.int8],
    scale: NDArray[np.float32],
    levels: NDArray[np.int8],
    hessian: NDArray[np.float32],
    inverse: NDArray[np.float32],
    factor: NDArray[np.float32],
    pivots: NDArray[np.float32],
    factors: NDArray[np.float32],
    offsets: NDArray[np.int32],
    sweeps: int,
    fed: bool,
    threads: int,
) -> None:
    """Better multipliers, scales and levels under a Hessian, in place."""

def cholesky(matrix: NDArray[np.float64], threads: int) -> bool:
    """The lower factor in place; whether the matrix is positive."""

def measure_read(nbytes: int, threads: int, seconds: float) -> list[float]:
    """Bytes per second of each pass over memory of its own (huge pages where the system gives them), all threads
    together, for about that long. The memory is freed before this returns."""

def measure_read_of(memory: NDArray[np.uint8], threads: int, seconds: float) -> list[float]:
    """The same over memory that is there, such as an archive's weights."""

def measure_peak(kind: str, threads: int, isa: str, seconds: float) -> list[float]:
    """Operations per second ("int8" or "f32") of loops in registers, with the best instructions up to `isa`."""

def not_finite(logits: NDArray[np.float32], isa: str | None = None) -> int:
    """How many of f32[V] are NaN or infinite. V is at most 2^20, here and below; `isa` is the highest to use."""

def choose_token(
    logits: NDArray[np.float32],
    changed: NDArray[np.int64],
    scores: NDArray[np.float64],
    mask: NDArray[np.uint32] | None,
    temperature: float,
    top_k: int,
    top_p: float,
    min_p: float,
    typical_p: float,
    number: int,
    isa: str | None = None,
) -> int | None:
    """A token by the definitions of runtime/sampling, drawn by a number of [0, 2^53) or, at temperature 0, the best.

    The scores of `changed` tokens are taken instead of their logits. None: no token is left, or a logit is not finite.
    """

def token_weights(
    logits: NDArray[np.float32],
    changed: NDArray[np.int64],
    scores: NDArray[np.float64],
    mask: NDArray[np.uint32] | None,
    temperature: float,
    top_k: int,
    top_p: float,
    min_p: float,
    typical_p: float,
    isa: str | None = None,
) -> NDArray[np.int64]:
    """i64[V]: the weights by which `choose_token` draws; all 0 where no token is left."""

def ranked(
    logits: NDArray[np.float32], count: int, isa: str | None = None
) -> tuple[list[int], int]:
    """`best_tokens`, and the sum of 2^43 e^(logit - best) of all, each rounded to a whole number."""

def best_tokens(logits: NDArray[np.float32], count: int) -> list[int]:
    """The tokens of the highest logits, best first, the lower of equal ones first."""
