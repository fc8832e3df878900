"""Keys and values of token sequences that were read before, so that a shared beginning is not read twice.

A tree: a node holds the tokens that follow its parent's first `start`, so a beginning that many sequences share
is kept once. Least recently used leaves go first.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hearth.runtime.adapters import AdapterUse
from hearth.runtime.contexts.kv_strips import packed_nbytes
from hearth.runtime.contexts.snapshot import Piece, Snapshot, take_piece
from hearth.runtime.session import Session

Ids = NDArray[np.int32]


@dataclass(eq=False)
class Node:
    """The tokens from position `start` on, read after those before them on the path; their keys and values.

    A child differs from its parent in its first token, or begins where the parent ends.
    """

    parent: Node | None
    start: int
    tokens: Ids
    piece: Piece
    used: int  # when, by a clock of calls
    pinned: bool = False
    children: dict[tuple[int, int], Node] = field(default_factory=dict)  # by start, first token

    @property
    def key(self) -> tuple[int, int]:
        return self.start, int(self.tokens[0])

    def path(self) -> Iterator[Node]:
        """This node and those above it but the root."""
        node: Node = self
        while node.parent is not None:
            yield node
            node = node.parent


@dataclass(frozen=True)
class PrefixStats:
    """What the cache holds and has done so far."""

    nbytes: int
    entries: int
    asked: int  # calls of fill
    hits: int  # those that found something
    tokens: int  # that did not have to be read
    dropped: int  # nodes, for others


class PrefixCache:
    """Of one model; sessions of any thread may use it. It keeps at most `nbytes` of keys and values.

    Only tokens read with the same adapter and scale count as the same, so what comes out is never changed.
    Snapshots that are `pinned` (each of one piece, one adapter) are memory that is there anyway, an archive's:
    they are not counted and never dropped.
    """

    def __init__(self, nbytes: int, pinned: Iterable[Snapshot] = ()) -> None:
        self.nbytes = nbytes
        self._lock = threading.Lock()
        self._roots: dict[AdapterUse | None, Node] = {}
        self._clock = self._held = self._entries = 0
        self._asked = self._hits = self._tokens = self._dropped = 0
        for snapshot in pinned:
            self._pin(snapshot)

    @property
    def stats(self) -> PrefixStats:
        """A reading of now."""
        with self._lock:
            return PrefixStats(
                self._held, self._entries, self._asked, self._hits, self._tokens, self._dropped
            )

    def best(self, tokens: Sequence[int], adapter: AdapterUse | None) -> int:
        """How many of the first tokens are kept, read with this adapter."""
        with self._lock:
            return self._find(np.asarray(tokens, np.int32), adapter)[1]

    def fill(self, session: Session[Any], tokens: Sequence[int]) -> int:
        """Make the session hold as many of the first tokens as it can without reading; how many that are.

        At most all but the last, which is to be read for its logits. What the session itself has read is used
        where it was read with the adapter that it uses now; what differs is forgotten.
        """
        ids = np.asarray(tokens, np.int32)[: max(len(tokens) - 1, 0)]
        own = session.shared(ids)
        with self._lock:
            node, found = self._find(ids, session.adapter)
            self._asked += 1
            if found <= own:
                session.rewind(own)
                return own
            self._hits += 1
            self._tokens += found - own
            self._touch(node)
            snapshot = _snapshot(session, ids[:found], node)
        session.restore(snapshot)
        return found

    def keep(self, session: Session[Any], count: int | None = None) -> None:
        """Keep what the session has read (its first `count` tokens), as far as it used one adapter.

        Nothing happens where that does not fit.
        """
        readers = session.readers[:count]
        if not readers:
            return
        same = sum(1 for _ in takewhile(lambda reader: reader == readers[0], readers))
        ids = np.asarray(session.tokens[:same], np.int32)
        with self._lock:
            node, found = self._find(ids, readers[0])
            self._touch(node)
            if found < same and self._add(session, node, ids, found) and not found:
                self._roots[readers[0]] = node

    def clear(self) -> None:
        """Forget all but what is pinned."""
        with self._lock:
            while leaves := list(self._leaves()):
                for leaf in leaves:
                    self._drop(leaf)

    def _pin(self, snapshot: Snapshot) -> None:
        (piece,) = snapshot.pieces
        root = self._roots.setdefault(snapshot.readers[0], _root())
        ids = np.asarray(snapshot.tokens, np.int32)
        node = Node(root, 0, ids, piece, 0, pinned=True)
        root.children[node.key] = node

    def _find(self, ids: Ids, adapter: AdapterUse | None) -> tuple[Node, int]:
        """The node that ends the longest known prefix, and the prefix's length."""
        node, found = self._roots.get(adapter) or _root(), 0
        while found < len(ids):
            child = node.children.get((found, int(ids[found])))
            if child is None:
                break
            node, found = child, found + _common(child.tokens, ids[found:])
        return node, found

    def _touch(self, node: Node) -> None:
        self._clock += 1
        for each in node.path():
            each.used = self._clock

    def _add(self, session: Session[Any], parent: Node, ids: Ids, found: int) -> bool:
        """Whether there is room for what follows the parent's first tokens."""
        model = session.executor
        if not self._make_room(packed_nbytes(model.kv_layout, found, len(ids)), parent):
            return False
        piece = take_piece(model.kv_layout, model.region(session.state), found, len(ids))
        node = Node(parent, found, ids[found:], piece, self._clock)
        parent.children[node.key] = node
        self._held += piece.packed.nbytes
        self._entries += 1
        return True

    def _make_room(self, nbytes: int, needed: Node) -> bool:
        """Drop leaves until there is room; False where there cannot be."""
        if nbytes > self.nbytes:
            return False
        while self._held + nbytes > self.nbytes:
            leaf = min(self._leaves(needed), key=lambda node: node.used, default=None)
            if leaf is None:
                return False
            self._drop(leaf)
            self._dropped += 1
        return True

    def _leaves(self, needed: Node | None = None) -> Iterator[Node]:
        """Nodes that may go, but for the needed one."""
        stack = list(self._roots.values())
        while stack:
            node = stack.pop()
            stack.extend(node.children.values())
            if node.parent and not node.children and not node.pinned and node is not needed:
                yield node

    def _drop(self, node: Node) -> None:
        parent = node.parent
        assert parent is not None
        del parent.children[node.key]
        if parent.parent is None and not parent.children:  # each adapter and scale has a root
            self._roots = {use: root for use, root in self._roots.items() if root is not parent}
        self._held -= node.piece.packed.nbytes
        self._entries -= 1


def _root() -> Node:
    return Node(None, 0, np.empty(0, np.int32), Piece(range(0), np.empty(0, np.uint8)), 0)


def _common(one: Ids, other: Ids) -> int:
    """How many first tokens are equal."""
    count = min(len(one), len(other))
    different = np.flatnonzero(one[:count] != other[:count])
    return int(different[0]) if different.size else count


def _snapshot(session: Session[Any], ids: Ids, node: Node) -> Snapshot:
    """The pieces on the path to a node, of which each is read up to where the next begins."""
    pieces = tuple(each.piece for each in node.path())[::-1]
    model, readers = session.executor, (session.adapter,) * len(ids)
    tokens = tuple(ids.tolist())
    return Snapshot(model.fingerprint, model.kv_layout, tokens, readers, pieces)
