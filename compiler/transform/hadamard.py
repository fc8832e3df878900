"""Hadamard matrices: +1 and -1, H H^T = n I. Sylvester's, Paley's from finite fields, Williamson's from tables.

Sylvester 1867; Paley 1933 (Journal of Mathematics and Physics 12); Williamson 1944 (Duke Mathematical Journal 11).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

Signs = NDArray[np.int8]

LARGEST = 1024  # no dense factor is larger: its cost grows with its order

# Four symmetric circulant matrices A, B, C, D of order m with A^2 + B^2 + C^2 + D^2 = 4m I, as the first m // 2 + 1
# signs of their first rows, for the orders that Paley's constructions miss. Found by search; tests prove them.
WILLIAMSON: dict[int, tuple[str, str, str, str]] = {
    23: ("+--++-+-+---", "+-+--+++++--", "+-+++--++-+-", "+++++-++---+"),
    29: ("++-++++----+--+", "++-+++------+-+", "+--++-+-+-++++-", "+++--+++-+-++-+"),
    43: (
        "+--++----+-+---+--++++",
        "+-+-+----++++-++++-++-",
        "+--+++--+-+--+-+++++-+",
        "++-+--++-+++----+++-++",
    ),
}


@dataclass(frozen=True)
class Factors:
    """n = blocks * dense orders * sylvester: the matrix is a Kronecker product of the orders, block by block."""

    blocks: int
    dense: tuple[int, ...]
    sylvester: int

    @property
    def order(self) -> int:
        """Columns of a block."""
        return int(np.prod(self.dense, dtype=np.int64)) * self.sylvester


def factors(n: int) -> Factors:
    """The cheapest product of known matrices of order n, with at most two dense ones.

    Where none is known, blocks of the largest divisor of n that has one (of the power of two in n, if nothing else).
    """
    for blocks in _divisors(n):
        found = _whole(n // blocks)
        if found is not None:
            return Factors(blocks, *found)
    raise ValueError(f"no Hadamard matrix of order {n}")  # never: order 1 is known


def sylvester(order: int) -> Signs:
    """H[2k] = [[H, H], [H, -H]] from H[1] = 1; `order` a power of two."""
    matrix = np.ones((1, 1), np.int8)
    while len(matrix) < order:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix


def dense(order: int) -> Signs:
    """The matrix of a dense factor; ValueError where no construction gives its order."""
    for construct in (_paley_one, _paley_two, _williamson):
        matrix = construct(order)
        if matrix is not None:
            return matrix
    raise ValueError(f"no Hadamard matrix of order {order}")


def _divisors(n: int) -> Iterator[int]:
    return (d for d in range(1, n + 1) if n % d == 0)


def _whole(n: int) -> tuple[tuple[int, ...], int] | None:
    """The dense orders and the power of two whose product is n, of the smallest cost."""
    odd = n
    while odd % 2 == 0:
        odd //= 2
    splits = ((a, odd // a) for a in _divisors(odd) if a * a <= odd)
    found = []
    for parts in splits:
        orders = [_smallest(part) for part in parts if part > 1]
        known = tuple(order for order in orders if order is not None)
        total = int(np.prod(known, dtype=np.int64))
        if len(known) == len(orders) and n % total == 0:
            found.append((known, n // total))
    return min(found, key=_cost, default=None)


def _cost(split: tuple[tuple[int, ...], int]) -> int:
    """Additions per value; less than a vector of 16 in the last factor costs more than it saves."""
    orders, power = split
    return sum(orders) + power.bit_length() + (16 if power < 16 else 0)


def _smallest(odd: int) -> int | None:
    """The smallest order 2^k * odd, k >= 2, that a construction gives."""
    order = 4 * odd
    while order <= LARGEST:
        if _paley_one_field(order) or _paley_two_field(order) or order // 4 in WILLIAMSON:
            return order
        order *= 2
    return None


def _prime_power(n: int) -> tuple[int, int] | None:
    """(p, k) of n = p^k."""
    if n < 2:
        return None
    p = next((d for d in range(2, int(n**0.5) + 1) if n % d == 0), n)
    k = 0
    while n % p == 0:
        n, k = n // p, k + 1
    return (p, k) if n == 1 else None


def _paley_one_field(order: int) -> tuple[int, int] | None:
    return _prime_power(order - 1) if order % 4 == 0 else None


def _paley_two_field(order: int) -> tuple[int, int] | None:
    return _prime_power(order // 2 - 1) if order % 8 == 4 else None


def _paley_one(order: int) -> Signs | None:
    """I + S, S skew of a field of order - 1 = 3 mod 4 elements."""
    field = _paley_one_field(order)
    if field is None:
        return None
    skew = np.block([[np.zeros((1, 1)), np.ones((1, order - 1))],
                     [-np.ones((order - 1, 1)), _characters(*field)]])  # fmt: skip
    return np.asarray(skew + np.eye(order), np.int8)


def _paley_two(order: int) -> Signs | None:
    """C x [[1, 1], [1, -1]] + I x [[1, -1], [-1, -1]], C symmetric of a field of order / 2 - 1 = 1 mod 4 elements."""
    field = _paley_two_field(order)
    if field is None:
        return None
    half = order // 2
    conference = np.block([[np.zeros((1, 1)), np.ones((1, half - 1))],
                           [np.ones((half - 1, 1)), _characters(*field)]])  # fmt: skip
    plus, minus = np.array([[1, 1], [1, -1]]), np.array([[1, -1], [-1, -1]])
    return np.asarray(np.kron(conference, plus) + np.kron(np.eye(half), minus), np.int8)


def _williamson(order: int) -> Signs | None:
    rows = WILLIAMSON.get(order // 4) if order % 4 == 0 else None
    if rows is None:
        return None
    a, b, c, d = (_circulant(row, order // 4) for row in rows)
    return np.block([[a, b, c, d], [-b, a, -d, c], [-c, d, a, -b], [-d, -c, b, a]])


def _circulant(half: str, order: int) -> Signs:
    """The symmetric circulant matrix of the first half of its first row."""
    first = np.array([1 if sign == "+" else -1 for sign in half], np.int8)
    distance = np.abs(np.subtract.outer(np.arange(order), np.arange(order)))
    return np.asarray(first[np.minimum(distance, order - distance)], np.int8)


def _characters(p: int, k: int) -> Signs:
    """Q[i, j] = 1 where i - j is a square of GF(p^k) other than 0, -1 where it is none, 0 on the diagonal."""
    digits = np.array(list(product(range(p), repeat=k)), np.int64)  # element i, highest power first
    weights = p ** np.arange(k)[::-1]
    squares = {int(at) for at in _squares(digits, p, k) @ weights}
    character = np.array([0] + [1 if at in squares else -1 for at in range(1, p**k)], np.int8)
    difference = (digits[:, None, :] - digits[None, :, :]) % p
    return np.asarray(character[difference @ weights], np.int8)


def _squares(digits: NDArray[np.int64], p: int, k: int) -> NDArray[np.int64]:
    """The squares of all elements but 0, digits [p^k - 1, k]."""
    multiply = _multiplication(digits, p, k)
    return multiply(digits[1:], digits[1:])


Product = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.int64]]


def _multiplication(digits: NDArray[np.int64], p: int, k: int) -> Product:
    """The product of GF(p^k), modulo the first monic polynomial that leaves no divisors of zero."""
    if k == 1:
        return lambda a, b: a * b % p
    for tail in product(range(p), repeat=k):
        multiply = _modulo(np.array(tail, np.int64), p)
        rest = digits[1:]
        if all(
            multiply(np.roll(rest, shift, axis=0), rest).any(axis=1).all()
            for shift in range(len(rest))
        ):
            return multiply
    raise ValueError(
        f"no irreducible polynomial of degree {k} over GF({p})"
    )  # never: one always exists


def _modulo(tail: NDArray[np.int64], p: int) -> Product:
    """a * b modulo x^k + tail, digits with the highest power first."""

    def multiply(a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.int64]:
        result = np.zeros_like(a)
        for digit in b.T:  # Horner: result * x + digit * a
            top, shifted = result[:, :1], np.roll(result, -1, axis=1)
            shifted[:, -1] = 0
            result = (shifted - top * tail + digit[:, None] * a) % p
        return result

    return multiply
