"""A hand-made program for the executor: embed, int8 cache, attention, residual, last rows, quantised head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from hearth.compiler.ir import arithmetic
from hearth.compiler.ir.evaluate_attention import attend
from hearth.compiler.ir.state import Stored
from hearth.runtime import native
from hearth.schemas.commands import BY_NAME, Activation, KVScheme, Layout, Pooling
from support.linears import Case, make_problem

F32 = NDArray[np.float32]
Place = tuple[int, int, int] | None
WEIGHTS, ARENA, KV, IO = range(4)
VOCAB, DIM, HEADS, CONTEXT, MOST = 45, 32, 2, 40, 12
HEAD_DIM = DIM // HEADS
POSITIONS = 48  # the context up to a multiple of 16
CODES, STEPS = HEADS * POSITIONS * HEAD_DIM, HEADS * POSITIONS * 4
ROW, RECORD, LOGITS = DIM * 4, 192, VOCAB * 4
T, R = -1, -2
TOKENS, LOGITS_PORT = (0, 0, T), (64, VOCAB, R)


@dataclass(frozen=True)
class Line:
    """One command as add_command takes it."""

    op: str
    rows: int
    operands: tuple[Place, ...]
    ints: tuple[int, ...]
    floats: tuple[float, ...] = ()


_EMBED = make_problem(Case("table", 1, VOCAB, DIM), Layout.F32B16)
_HEAD = make_problem(Case("head", 1, VOCAB, DIM), Layout.Q4B16)
_HEAD_AT = -(-_EMBED.packed.size // 64) * 64
ARENA_NBYTES, IO_NBYTES = MOST * (4 * ROW + RECORD), 64 + MOST * LOGITS
KV_NBYTES = 2 * (CODES + STEPS)


def _arena(slot: int) -> Place:
    return (ARENA, slot * MOST * ROW, ROW)


_Q8: Place = (ARENA, 4 * MOST * ROW, RECORD)
_CACHES = {
    name: (KV, offset, 0)
    for name, offset in {"k": 0, "v": CODES, "ks": 2 * CODES, "vs": 2 * CODES + STEPS}.items()
}
PROGRAM: tuple[Line, ...] = (
    Line(
        "embed",
        T,
        ((IO, 0, 0), (WEIGHTS, 0, 0), _arena(0)),
        (VOCAB, DIM, int(Layout.F32B16), 0),
    ),
    *(
        Line(
            "kv_write",
            T,
            (_arena(0), None, None, _CACHES[name], _CACHES[name + "s"]),
            (HEADS, HEAD_DIM, 0, CONTEXT, int(KVScheme.INT8), kind),
        )
        for kind, name in enumerate("kv")
    ),
    Line(
        "attention",
        T,
        (_arena(0), None, None, *(_CACHES[name] for name in ("k", "ks", "v", "vs")), _arena(1)),
        (HEADS, HEADS, HEAD_DIM, 0, CONTEXT, int(KVScheme.INT8), 0, 1),
        (0.25,),
    ),
    Line("add", T, (_arena(0), _arena(1), _arena(2)), (DIM,)),
    Line("last_rows", R, (_arena(2), _arena(3)), (DIM,)),
    Line("quantize", R, (_arena(3), _Q8), (DIM,)),
    Line(
        "linear",
        R,
        (_Q8, (WEIGHTS, _HEAD_AT, 0), None, None, (IO, 64, LOGITS)),
        (VOCAB, DIM, int(Layout.Q4B16), 32, 0),
    ),
)

_VECTOR = (WEIGHTS, 0, 0)  # any floats of the table
_TABLE_INTS = (VOCAB, DIM, int(Layout.F32B16), 0)
ENCODER: tuple[
    Line, ...
] = (  # what PROGRAM lacks: learned positions, layer norms, no mask, an activation, pooling
    Line("embed", T, ((IO, 0, 0), _VECTOR, _arena(0)), _TABLE_INTS),
    Line("embed_positions", T, (_VECTOR, _arena(1)), _TABLE_INTS),
    Line("add", T, (_arena(0), _arena(1), _arena(2)), (DIM,)),
    Line("layer_norm", T, (_arena(2), _VECTOR, _VECTOR, _arena(0)), (DIM,), (1e-5,)),
    *PROGRAM[1:3],
    replace(PROGRAM[3], ints=(*PROGRAM[3].ints[:-1], 0)),
    Line("layer_norm_quantize", T, (_arena(1), None, _VECTOR, _Q8), (DIM,), (1e-5,)),
    Line(
        "linear",
        T,
        (_Q8, (WEIGHTS, _HEAD_AT, 0), _VECTOR, _arena(0), _arena(2)),
        (DIM, DIM, int(Layout.Q4B16), 32, int(Activation.GELU)),
    ),
    Line("activate", T, (_arena(2), _arena(2)), (DIM, int(Activation.TANH))),
    Line("pool", 1, (_arena(2), _arena(3)), (DIM, int(Pooling.MEAN))),
    Line("l2_normalize", 1, (_arena(3), (IO, 64, LOGITS)), (DIM,), (1e-12,)),
)


def weights() -> NDArray[np.uint8]:
    """The weights region on a 64-byte boundary."""
    size = _HEAD_AT + _HEAD.packed.size
    memory = np.zeros(size + 64, np.uint8)
    region = memory[-memory.ctypes.data % 64 :][:size]
    region[: _EMBED.packed.size] = _EMBED.packed
    region[_HEAD_AT:] = _HEAD.packed
    return region


def add(engine: native.Engine, line: Line, entry: int = 0) -> None:
    """One command into an entry."""
    opcode = BY_NAME[line.op].opcode
    engine.add_command(entry, opcode, line.rows, line.operands, line.ints, line.floats)


def blank(
    threads: int = 1,
    isa: str = "portable",
    ports: tuple[tuple[int, int, int], tuple[int, int, int]] = (TOKENS, LOGITS_PORT),
) -> native.Engine:
    """An engine with one entry, which has one input and one output, and no commands."""
    engine = native.Engine(weights(), ARENA_NBYTES, IO_NBYTES, KV_NBYTES, threads, isa)
    assert engine.add_entry(MOST, MOST, [ports[0]], [ports[1]]) == 0
    return engine


def ready(
    threads: int = 1,
    isa: str = "portable",
    program: Sequence[Line] = PROGRAM,
    ports: tuple[tuple[int, int, int], tuple[int, int, int]] = (TOKENS, LOGITS_PORT),
) -> native.Engine:
    """The program, bound."""
    engine = blank(threads, isa, ports)
    for line in program:
        add(engine, line)
    engine.finish()
    return engine


@dataclass
class Talk:
    """A state that is fed tokens, and what numpy says of the same tokens."""

    engine: native.Engine
    state: native.State = field(default_factory=lambda: native.State(KV_NBYTES))
    position: int = 0

    def feed(self, tokens: Sequence[int], rows: int = 1) -> F32:
        """Logits of the last rows."""
        logits = np.full((rows, VOCAB), np.nan, np.float32)
        ids = np.array(tokens, np.int32)
        self.engine.run(self.state, 0, len(ids), self.position, [ids], [logits])
        self.position += len(tokens)
        return logits


def expected(tokens: Sequence[int]) -> F32:
    """Logits of every token in numpy."""
    assert isinstance(_EMBED.weight, np.ndarray)
    head = _HEAD.weight
    assert not isinstance(head, np.ndarray)
    x = _EMBED.weight[np.asarray(tokens)].reshape(-1, HEADS, HEAD_DIM)
    stored = Stored.of(x, KVScheme.INT8)
    y = (x + attend(x, stored, stored, 0, 0.25, 0)).reshape(len(tokens), DIM)
    codes, step = arithmetic.quantize(y)
    assert head.multipliers is not None
    w = head.codes.astype(np.float32) * np.repeat(head.multipliers, 32, axis=1)
    sums = arithmetic.integer_products(codes.astype(np.float32), w)
    return np.asarray(sums * step[:, None] * head.scale, np.float32)
