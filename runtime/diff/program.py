"""Two programs: entries, sizes, and their commands aligned as sequences; the contracts name what differs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from enum import IntEnum
from itertools import zip_longest

from hearth.runtime.diff.fields import field_changes, plain
from hearth.runtime.diff.findings import Change
from hearth.schemas.commands import (
    BY_NAME,
    Activation,
    Kind,
    KVKind,
    KVScheme,
    Layout,
    Pooling,
    Role,
)
from hearth.schemas.program import Command, Entry, Operand, Program, Region
from hearth.schemas.weights_index import WeightsIndex

ENUMS: Mapping[str, type[IntEnum]] = {
    "layout": Layout,
    "activation": Activation,
    "scheme": KVScheme,
}
KINDS: Mapping[str, type[IntEnum]] = {"kv_write": KVKind, "pool": Pooling}
MANY = 5000  # commands beyond which a sequence diff takes too long


@dataclass(frozen=True)
class Named:
    """A program whose weights have names."""

    program: Program
    tensors: Mapping[int, str]

    @classmethod
    def of(cls, program: Program, index: WeightsIndex) -> Named:
        return cls(program, {tensor.offset: tensor.name for tensor in index.tensors})

    def weight(self, operand: Operand) -> str:
        """The tensor an operand reads."""
        return self.tensors.get(operand.offset, f"weights+{operand.offset}")

    def words(self, command: Command) -> str:
        """The command with the first weight it reads: `linear model.layers.0.mlp.down`; tables say nothing."""
        contract = BY_NAME.get(command.op)
        specs = contract.operands if contract else ()
        own = [
            self.weight(operand)
            for operand, spec in zip(command.operands, specs, strict=False)
            if operand is not None and spec.role is Role.WEIGHT and Kind.TABLE not in spec.kinds
        ]
        return " ".join((command.op, *own[:1]))

    def key(self, command: Command) -> str:
        """What commands are aligned by: all weights they read."""
        return " ".join((command.op, *self.weights(command)))

    def weights(self, command: Command) -> list[str]:
        return [
            self.weight(operand)
            for operand in command.operands
            if operand is not None and operand.region is Region.WEIGHTS
        ]


def program_changes(a: Named, b: Named) -> Iterator[Change]:
    """Sizes, then entry by entry."""
    yield from field_changes(_sizes(a.program), _sizes(b.program))
    ours, theirs = a.program.entries, b.program.entries
    for name in {**ours, **theirs}:
        if name in ours and name in theirs:
            yield from entry_changes(name, (a, ours[name]), (b, theirs[name]))
        else:
            counts = (_count(ours.get(name)), _count(theirs.get(name)))
            yield Change(f"entries.{name}", *counts)


def _sizes(program: Program) -> dict[str, int]:
    names = ("weights_nbytes", "kv_nbytes", "io_nbytes")
    return {name: getattr(program, name) for name in names}


def _count(entry: Entry | None) -> str | None:
    return None if entry is None else f"{len(entry.commands)} commands"


Part = tuple[Named, Entry]


def entry_changes(name: str, a: Part, b: Part) -> Iterator[Change]:
    """Ports and plan, then the commands; last the operands, which follow from those."""
    (ours, one), (theirs, other) = a, b
    pairs = list(aligned(a, b))
    both = [
        (f"{name}[{low}]", (ours, one.commands[low]), (theirs, other.commands[high]))
        for low, high in pairs
        if low is not None and high is not None
    ]
    found = [*field_changes(_frame(one), _frame(other), name)]
    for low, high in pairs:
        if low is None and high is not None:
            found.append(Change(f"{name}[{high}]", None, theirs.words(other.commands[high])))
        elif high is None and low is not None:
            found.append(Change(f"{name}[{low}]", ours.words(one.commands[low]), None))
    for path, left, right in both:
        found += attribute_changes(path, left, right)
    for path, left, right in both:
        found += operand_changes(path, left, right)
    if not found and one != other:
        found.append(Change(f"{name}: numbers of values", "some", "others"))
    yield from found


def _frame(entry: Entry) -> dict[str, object]:
    """What an entry has beside its commands, but the numbers of its values."""
    bare = replace(entry, commands=(), given=())
    ports = {
        "inputs": [replace(port, operand=replace(port.operand, value=0)) for port in entry.inputs],
        "outputs": [
            replace(port, operand=replace(port.operand, value=0)) for port in entry.outputs
        ],
    }
    whole: dict[str, object] = plain(bare) | plain(ports)
    return {key: value for key, value in whole.items() if key not in ("commands", "given")}


def aligned(a: Part, b: Part) -> Iterator[tuple[int | None, int | None]]:
    """Places of commands that belong together; None where the other side has no such command."""
    ours, theirs = ([named.words(command) for command in entry.commands] for named, entry in (a, b))
    if max(len(ours), len(theirs)) > MANY:
        yield from zip_longest(range(len(ours)), range(len(theirs)))
        return
    for tag, i1, i2, j1, j2 in SequenceMatcher(None, ours, theirs, False).get_opcodes():
        same_ops = _ops(a[1], i1, i2) == _ops(b[1], j1, j2)
        if tag == "equal" or same_ops:
            yield from zip(range(i1, i2), range(j1, j2), strict=True)
        else:
            yield from ((place, None) for place in range(i1, i2))
            yield from ((None, place) for place in range(j1, j2))


def _ops(entry: Entry, start: int, stop: int) -> Sequence[str]:
    return [command.op for command in entry.commands[start:stop]]


Bound = tuple[Named, Command]


def attribute_changes(path: str, a: Bound, b: Bound) -> Iterator[Change]:
    """Rows and attributes, by the contract's names."""
    head = f"{path} {a[0].words(a[1])}"
    yield from field_changes(_attributes(a[1]), _attributes(b[1]), head)


def operand_changes(path: str, a: Bound, b: Bound) -> Iterator[Change]:
    """What a command reads and writes, and where."""
    head = f"{path} {a[0].words(a[1])}"
    yield from field_changes(_operands(*a), _operands(*b), head)


def _attributes(command: Command) -> dict[str, object]:
    contract = BY_NAME.get(command.op)
    ints = contract.ints if contract else ()
    floats = contract.float_names(command.ints) if contract else ()
    found: dict[str, object] = {"op": command.op, "rows": str(command.rows)}
    for place, value in enumerate(command.ints):
        name = ints[place] if place < len(ints) else f"int {place}"
        found[name] = _named(command.op, name, value)
    for place, number in enumerate(command.floats):
        found[floats[place] if place < len(floats) else f"float {place}"] = number
    return found


def _named(op: str, name: str, value: int) -> object:
    kind = KINDS.get(op) if name == "kind" else ENUMS.get(name)
    known = kind is not None and value in set(kind)
    return kind(value).name.lower() if kind is not None and known else value


def _operands(named: Named, command: Command) -> dict[str, object]:
    contract = BY_NAME.get(command.op)
    names = [spec.name for spec in contract.operands] if contract else []
    return {
        names[place] if place < len(names) else f"operand {place}": _place(named, operand)
        for place, operand in enumerate(command.operands)
    }


def _place(named: Named, operand: Operand | None) -> str | None:
    if operand is None:
        return None
    if operand.region is Region.WEIGHTS:
        return f"{named.weight(operand)} ({operand.nbytes} bytes)"
    region = operand.region.name.lower()
    return f"{region}+{operand.offset} ({operand.nbytes} bytes, stride {operand.stride})"
