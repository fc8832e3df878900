"""RoPE as one node, and what fused attention shares with it: rows of heads turned by tables that the graph stores."""

from __future__ import annotations

from hearth.compiler.frontend.onnx.model import Node
from hearth.compiler.frontend.onnx.permute import permuted
from hearth.compiler.frontend.onnx.raising import Raising, integer, optional_input
from hearth.compiler.frontend.onnx.rules.heads import flag
from hearth.compiler.frontend.onnx.values import Ends, Mismatch, Rows, View
from hearth.compiler.frontend.onnx.views import as_view, columns, reshape, shown, transpose
from hearth.compiler.frontend.sources import RowRange
from hearth.compiler.ir.ops import Constant, Op, RoPE, tensor
from hearth.compiler.ir.tensors import Source

Tables = tuple[Constant, Constant]


def caches(cos: str, sin: str, rotary: int, raising: Raising) -> Tables:
    """Stored tables [positions, rotary / 2], cut to the context; rotary 0: as wide as they are."""
    found = [raising.constants.matrix(name, transposed=False) for name in (cos, sin)]
    context = raising.layers.context
    shapes = {constant.value.shape for constant in found}
    rows, width = next(iter(shapes))
    if len(shapes) != 1 or (rotary and width * 2 != rotary):
        raise Mismatch(f"tables {sorted(shapes)} for {rotary} turned elements")
    if rows < context:
        raise Ends(rows, "the tables of RoPE")
    return _cut(found[0], context, raising), _cut(found[1], context, raising)


def _cut(table: Constant, context: int, raising: Raising) -> Constant:
    if not isinstance(table.value, Source):
        raise Mismatch(f"the table {table.name!r} is quantised")
    source = table.value
    if source.shape[0] == context:
        return table
    key = (table.name, "rows", context)
    return raising.constants.coded(key, table.name, lambda: RowRange(source, 0, context))


def turned(op: Op, heads: int, tables: Tables, interleaved: bool, raising: Raising) -> Op:
    """op[T, heads * D] by the tables; interleaved pairs become halves by the order of the weight's rows."""
    width = tensor(op).shape[1]
    assert isinstance(width, int)
    head_dim = width // heads
    rotary = 2 * int(tensor(tables[0]).shape[1])
    if rotary > head_dim:
        raise Mismatch(f"turns {rotary} elements of heads of {head_dim}")
    if interleaved:
        op = permuted(op, halves(heads, head_dim, rotary), raising.constants)
    return RoPE(op, *tables, raising.position, heads)


def halves(heads: int, head_dim: int, rotary: int) -> list[int]:
    """The columns of heads whose turned neighbours become the two halves of what is turned."""
    one = (*range(0, rotary, 2), *range(1, rotary, 2), *range(rotary, head_dim))
    return [head * head_dim + i for head in range(heads) for i in one]


def check_positions(name: str, raising: Raising) -> None:
    """The position ids are those of the tokens: P, P + 1, ... (or P alone, the first)."""
    for point, array in zip(raising.probes.points, raising.probes.values(name), strict=True):
        wanted = list(range(point.past, point.past + point.tokens))
        found = [int(item) for item in array.reshape(-1)]
        if found != wanted and not (array.size == 1 and found == wanted[:1]):
            raise Mismatch(f"{name!r} are no positions of the tokens")


def rotary_embedding(node: Node, raising: Raising) -> View:
    """com.microsoft: inputs x, position ids, cos, sin; the standard's: x, cos, sin, position ids."""
    contrib = node.domain == "com.microsoft"
    x, cos, sin = node.inputs[0], *(node.inputs[2:4] if contrib else node.inputs[1:3])
    name = optional_input(node, 1 if contrib else 3)
    rotary = integer(node, "rotary_embedding_dim", 0)
    if name is None:
        raise Mismatch("its tables are given for each token")
    check_positions(name, raising)
    view = raising.view(x)
    tables = caches(cos, sin, rotary, raising)
    rows_first, heads = _rows_of_heads(view, integer(node, "num_heads", 0), tables)
    flat = [atom for axis in rows_first.axes[1:] for atom in axis]
    op = columns(rows_first, flat)
    interleaved = flag(node, "interleaved")
    y = as_view(turned(op, heads, tables, interleaved, raising), rows_first.dims)
    return View(_as(y, view).base, _as(y, view).axes, scale=view.scale)


def _rows_of_heads(view: View, heads: int, tables: Tables) -> tuple[View, int]:
    """([T, H, D], H) of [1, H, T, D] or [1, T, H * D]."""
    match view.dims:
        case (1, int() as count, Rows.T, int()):
            return transpose(reshape(view, view.dims[1:]), (1, 0, 2)), count
        case (1, Rows.T, int() as width):
            count = heads or width // (2 * int(tensor(tables[0]).shape[1]))
            if count < 1 or width % count:
                raise Mismatch(f"{width} columns are no {count} heads")
            return reshape(view, (Rows.T, count, width // count)), count
    raise Mismatch(f"turns {shown(view.dims)}")


def _as(rows_first: View, like: View) -> View:
    """[T, H, D] in the shape of the input."""
    if len(like.dims) == 4:
        return reshape(transpose(rows_first, (1, 0, 2)), like.dims)
    return reshape(rows_first, like.dims)
