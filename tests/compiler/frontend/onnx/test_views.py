"""Views agree with numpy on every element (reshape, transpose, slice, expand); mixed rows and columns are refused."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from hearth.compiler.frontend.onnx import views
from hearth.compiler.frontend.onnx.values import Mismatch, Point, Rows, Size, View
from hearth.compiler.ir.ops import Input, Op, Slice

T = Rows.T
COUNT = 24
POINT = Point(5, 0)


def look(view: View) -> NDArray[np.int64]:
    """The elements a view shows of the matrix [T, 24] whose element (t, c) is 100 t + c."""
    shape = POINT.shape(view)
    result = np.full(shape, view.offset, np.int64)
    for place, axis in enumerate(view.axes):
        inner = np.zeros(shape[place], np.int64)
        step = shape[place]
        for atom in axis:
            size = POINT.size(atom.size)
            step //= size
            digit = np.arange(shape[place]) // step % size
            inner += digit * (100 if isinstance(atom.size, Rows) else atom.stride)
        shaped = inner.reshape([-1 if i == place else 1 for i in range(len(shape))])
        result = result + shaped
    return result


def matrix() -> tuple[View, NDArray[np.int64]]:
    array = 100 * np.arange(POINT.tokens)[:, None] + np.arange(COUNT)
    return views.as_view(Input("x", COUNT), (1, T, COUNT)), array[None]


def test_heads() -> None:
    view, array = matrix()
    heads = views.transpose(views.reshape(view, (1, T, 4, 6)), (0, 2, 1, 3))
    wanted = array.reshape(1, 5, 4, 6).transpose(0, 2, 1, 3)
    np.testing.assert_array_equal(look(heads), wanted)
    part = views.slice_axis(heads, 3, 1, 6, 2)
    np.testing.assert_array_equal(look(part), wanted[..., 1:6:2])
    back = views.reshape(views.transpose(heads, (0, 2, 1, 3)), (1, T, COUNT))
    np.testing.assert_array_equal(look(back), array)
    assert views.matrix(back) is view.base


def test_repeated_heads() -> None:
    view, array = matrix()
    heads = views.transpose(views.reshape(view, (1, T, 4, 6)), (0, 2, 1, 3))
    wide = views.expand(views.unsqueeze(heads, (2,)), (1, 4, 3, T, 6))
    flat = views.reshape(wide, (1, 12, T, 6))
    wanted = np.repeat(array.reshape(1, 5, 4, 6).transpose(0, 2, 1, 3), 3, axis=1)
    np.testing.assert_array_equal(look(flat), wanted)


def test_random_chains_agree_with_numpy() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        view, array = matrix()
        for _ in range(6):
            view, array = _step(view, array, rng)
        np.testing.assert_array_equal(look(view), array)


def _step(
    view: View, array: NDArray[np.int64], rng: np.random.Generator
) -> tuple[View, NDArray[np.int64]]:
    match rng.integers(4):
        case 0:
            order = [int(i) for i in rng.permutation(len(view.axes))]
            return views.transpose(view, order), array.transpose(order)
        case 1:
            place = int(rng.integers(len(view.axes) + 1))
            return views.unsqueeze(view, (place,)), np.expand_dims(array, place)
        case 2:
            places = [i for i, size in enumerate(view.dims) if isinstance(size, int) and size > 1]
            if not places:
                return view, array
            place = int(rng.choice(places))
            size = array.shape[place]
            start = int(rng.integers(size))
            stop = int(rng.integers(start + 1, size + 1))
            try:
                part = views.slice_axis(view, place, start, stop)
            except Mismatch:  # an axis of several atoms
                return view, array
            return part, np.take(array, range(start, stop), place)
        case _:
            dims: list[Size] = []
            for size in view.dims:
                dims += [2, size // 2] if isinstance(size, int) and size % 2 == 0 else [size]
            shape = [POINT.size(size) for size in dims]
            return views.reshape(view, dims), array.reshape(shape)


@pytest.mark.parametrize("target", [(1, T, 5), (COUNT, T), (5, COUNT), (T, T, COUNT), (1, T, 48)])
def test_impossible_shapes(target: tuple[Size, ...]) -> None:
    with pytest.raises(Mismatch):
        views.reshape(matrix()[0], target)


def test_a_part_of_the_columns_is_a_slice() -> None:
    view, _ = matrix()
    op: Op = views.matrix(views.slice_axis(view, 2, 6, 12))
    assert isinstance(op, Slice) and (op.start, op.stop) == (6, 12)


@pytest.mark.parametrize("order", [(2, 1, 0), (0, 1, 3, 2)])
def test_columns_out_of_order_are_no_matrix(order: tuple[int, ...]) -> None:
    view, _ = matrix()
    wide = views.reshape(view, (1, T, 4, 6)) if len(order) == 4 else view
    with pytest.raises(Mismatch):
        views.matrix(views.transpose(wide, order))
