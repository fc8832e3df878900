"""Save what a session has read, and what was being written, in a file; go on from it to the bit.

Loading is all or nothing: a `Context` is made when the whole file has been checked, and nothing changes before.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby, islice, repeat
from pathlib import Path
from typing import Any, TypeVar

import msgpack

from hearth.runtime.adapters import Adapter, AdapterUse
from hearth.runtime.archive.files import SYSTEM_FILES, Files
from hearth.runtime.contexts.file import MAX_HEAD_NBYTES, Parts, read_parts, write_parts
from hearth.runtime.contexts.kv_strips import layout_hash, pack_pieces, packed_nbytes
from hearth.runtime.contexts.snapshot import Piece, Snapshot
from hearth.runtime.generation.writing import Full, Request
from hearth.runtime.sampling.state import ChooserState
from hearth.runtime.session import Executor, Session
from hearth.schemas import __version__
from hearth.schemas.codec import decode, dumps, unpack
from hearth.schemas.context import ReaderRun, SavedAdapter, SavedContext, SavedTalk, SavedText
from hearth.schemas.errors import ArchiveError, HearthError, UsageError

StateT = TypeVar("StateT")

PIECE_NBYTES = 4 << 20  # of keys and values, copied while those before are written


@dataclass(frozen=True)
class Text:
    """A text that is being written after a session's tokens."""

    request: Request
    chooser: ChooserState
    constrained: bool = False  # its constraint is not saved: it is made anew


@dataclass(frozen=True)
class Talk:
    """A conversation's name, messages and tools."""

    name: str
    messages: tuple[Mapping[str, Any], ...]
    tools: tuple[Mapping[str, Any], ...] | None = None


@dataclass(frozen=True)
class Context:
    """What a file holds: `adapter` is what the next tokens are to be read with."""

    snapshot: Snapshot
    adapter: AdapterUse | None = None
    text: Text | None = None
    talk: Talk | None = None

    def restore_into(self, session: Session[Any]) -> None:
        """The session goes on as the saved one would have."""
        session.restore(self.snapshot)
        use = self.adapter
        if use is None:
            session.use_adapter(None)
        else:
            session.use_adapter(use.name, use.scale)

    def session(self, model: Executor[StateT]) -> Session[StateT]:
        """A session of its own that goes on as the saved one would have."""
        session = Session(model)
        self.restore_into(session)
        return session


def save_context(
    path: str | os.PathLike[str],
    session: Session[Any],
    text: Text | None = None,
    talk: Talk | None = None,
    *,
    files: Files = SYSTEM_FILES,
) -> None:
    """Write a file with all that is needed to go on; what stood there before stays until the new one is whole.

    ResourceError `resource.disk_full`, `resource.unwritable`; then there is no new file.
    """
    model, count = session.executor, session.position
    head = dumps(_saved(session, text, talk))
    if len(head) > MAX_HEAD_NBYTES:
        raise UsageError(
            "arguments.context",
            f"the texts of the conversation make a head of {len(head)} bytes",
            expected=f"at most {MAX_HEAD_NBYTES}",
        )
    packed = pack_pieces(model.kv_layout, model.region(session.state), 0, count, PIECE_NBYTES)
    write_parts(Path(path), head, packed_nbytes(model.kv_layout, 0, count), packed, files)


def load_context(path: str | os.PathLike[str], model: Executor[Any]) -> Context:
    """What a file holds, for a model of the archive that it was saved with.

    ArchiveError `context.*` says what is wrong with it: another archive or adapter, another version, truncated,
    damaged, not a context at all.
    """
    place = Path(path)
    parts = read_parts(place)
    try:
        return _context(parts, model, str(place))
    except HearthError as error:
        if not error.code.startswith("context."):
            raise _schema(error.found, error.expected, str(place)) from None
        raise
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise _schema(f"its head makes no sense: {error!r:.100}", "", str(place)) from None


def _saved(session: Session[Any], text: Text | None, talk: Talk | None) -> SavedContext:
    model = session.executor
    known = model.adapters
    return SavedContext(
        hearth=__version__,
        archive=model.fingerprint,
        layout=layout_hash(model.kv_layout),
        tokens=session.tokens,
        readers=tuple(
            ReaderRun(sum(1 for _ in run), _saved_adapter(reader, known))
            for reader, run in groupby(session.readers)
        ),
        adapter=_saved_adapter(session.adapter, known),
        text=None if text is None else _saved_text(text),
        talk=None if talk is None else _saved_talk(talk),
    )


def _saved_adapter(use: AdapterUse | None, known: Mapping[str, Adapter]) -> SavedAdapter | None:
    return None if use is None else SavedAdapter(use.name, use.scale, known[use.name].sha256)


def _saved_text(text: Text) -> SavedText:
    request, chooser = text.request, msgpack.packb(text.chooser.plain())
    stops = tuple(sorted(request.stop_ids))
    return SavedText(
        chooser, text.constrained, request.max_tokens, stops, request.stop, request.logprobs,
        request.full.value,
    )  # fmt: skip


def _saved_talk(talk: Talk) -> SavedTalk:
    tools = None if talk.tools is None else tuple(map(_json, talk.tools))
    return SavedTalk(talk.name, tuple(map(_json, talk.messages)), tools)


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _context(parts: Parts, model: Executor[Any], where: str) -> Context:
    saved = decode(SavedContext, unpack(parts.head, "head", where, MAX_HEAD_NBYTES), "head", where)
    _check_archive(saved, model, where)
    count, layout = len(saved.tokens), model.kv_layout
    readers = tuple(islice(_readers(saved, model.adapters, where), count + 1))
    if (
        len(readers) != count
        or count > model.context
        or max(saved.tokens, default=0) >= model.vocab
    ):
        raise _schema("tokens that are none of this model's", "its vocabulary and context", where)
    if parts.packed.nbytes != packed_nbytes(layout, 0, count):
        found = f"{parts.packed.nbytes} bytes of keys and values"
        raise _schema(found, f"{packed_nbytes(layout, 0, count)} of {count} tokens", where)
    piece = Piece(range(count), parts.packed)
    snapshot = Snapshot(saved.archive, layout, saved.tokens, readers, (piece,))
    return Context(
        snapshot,
        _use(saved.adapter, model.adapters, where),
        None if saved.text is None else _text(saved.text, model.vocab),
        None if saved.talk is None else _talk(saved.talk),
    )


def _check_archive(saved: SavedContext, model: Executor[Any], where: str) -> None:
    if saved.archive != model.fingerprint:
        raise ArchiveError(
            "context.archive",
            f"it was saved with the archive {saved.archive[:16]}",
            expected=f"{model.fingerprint[:16]}, the archive that is loaded",
            where=where,
            remedy="load the archive that it was saved with (hearth inspect shows an archive's fingerprint)",
        )
    if saved.layout != layout_hash(model.kv_layout):
        raise ArchiveError(
            "context.layout",
            f"its keys and values are laid out as hearth {saved.hearth} did",
            expected="the layout of this version",
            where=where,
            remedy="begin the conversation anew",
        )


def _readers(
    saved: SavedContext, known: Mapping[str, Adapter], where: str
) -> Iterator[AdapterUse | None]:
    for run in saved.readers:
        use = _use(run.adapter, known, where)
        yield from repeat(use, run.tokens)


def _use(saved: SavedAdapter | None, known: Mapping[str, Adapter], where: str) -> AdapterUse | None:
    if saved is None:
        return None
    here = known.get(saved.name)
    if here is None or here.sha256 != saved.sha256:
        has = "none of that name" if here is None else f"one with {here.sha256[:16]}"
        raise ArchiveError(
            "context.adapter",
            f"it was saved with the adapter {saved.name!r} with SHA-256 {saved.sha256[:16]}",
            expected=f"an adapter of this archive, which has {has}",
            where=where,
            remedy="add the adapter that it was saved with (hearth lora add)",
        )
    return AdapterUse(saved.name, saved.scale)


def _text(saved: SavedText, vocab: int) -> Text:
    state = ChooserState.from_plain(unpack(saved.chooser, "chooser"))
    state.sampling.check_vocabulary(vocab)
    if not all(0 <= token < vocab for token in state.tokens):
        raise ValueError(f"tokens of a text beyond {vocab}")
    request = Request(
        saved.max_tokens, frozenset(saved.stop_ids), saved.stop, state.sampling, saved.logprobs,
        Full(saved.full),
    )  # fmt: skip
    return Text(request, state, saved.constrained)


def _talk(saved: SavedTalk) -> Talk:
    tools = None if saved.tools is None else tuple(map(_object, saved.tools))
    return Talk(saved.name, tuple(map(_object, saved.messages)), tools)


def _object(text: str) -> Mapping[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError(f"{text:.40} is no object")
    return value


def _schema(found: str, expected: str, where: str) -> ArchiveError:
    return ArchiveError(
        "context.schema",
        found,
        expected=expected or "a head as hearth writes it",
        where=where,
        remedy="the file was not written by hearth, or by another version",
    )
