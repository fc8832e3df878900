"""Programs of the executor with some of their numbers changed at random."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from support.engines import LOGITS_PORT, TOKENS, Line

Port = tuple[int, int, int]
NUMBERS = (
    *(-3, -2, -1, 0, 1, 2, 3, 4, 7, 8, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 128, 192, 1000),
    *(4096, 65536, 1 << 20, (1 << 28) - 1, 1 << 31, 1 << 40, 1 << 62, (1 << 63) - 1, -(1 << 63)),
)
NUDGES = (-64, -4, 4, 64, 128)


def _operand(line: Line, rng: random.Random) -> Line:
    operands = list(line.operands)
    index = rng.randrange(len(operands))
    old = operands[index]
    if old is None or rng.random() < 0.1:
        new = (rng.randrange(5), rng.choice(NUMBERS), rng.choice(NUMBERS))
        operands[index] = rng.choice([None, new])
    else:
        region, offset, stride = old
        change = rng.randrange(4)
        operands[index] = (
            rng.randrange(5) if change == 0 else region,
            rng.choice(NUMBERS) if change == 1 else offset + rng.choice((0, *NUDGES)),
            rng.choice(NUMBERS) if change == 2 else stride,
        )
    return replace(line, operands=tuple(operands))


def _attribute(line: Line, rng: random.Random) -> Line:
    ints = list(line.ints)
    ints[rng.randrange(len(ints))] = rng.choice(NUMBERS)
    return replace(line, ints=tuple(ints))


def _rows(line: Line, rng: random.Random) -> Line:
    return replace(line, rows=rng.choice((-2, -1, 0, 1, 2, 12)))


def broken(rng: random.Random, whole: Sequence[Line]) -> list[Line]:
    """The program with up to three of its numbers changed."""
    program = list(whole)
    for _ in range(rng.choice((1, 1, 2, 3))):
        index = rng.randrange(len(program))
        mutate = rng.choice((_operand, _operand, _attribute, _attribute, _rows))
        program[index] = mutate(program[index], rng)
    return program


def broken_ports(rng: random.Random, output: Port = LOGITS_PORT) -> tuple[Port, Port]:
    """The tokens and the output, one number of one of them changed now and then."""
    ports = [list(TOKENS), list(output)]
    if rng.random() < 0.2:
        port, field = rng.choice(ports), rng.randrange(3)
        port[field] = rng.choice((port[field] + rng.choice(NUDGES), *NUMBERS))
    (a, b, c), (d, e, f) = ports
    return (a, b, c), (d, e, f)
