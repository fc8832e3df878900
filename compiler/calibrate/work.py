"""The folder of a compile's work: coded weights and where it stands, so that a killed compile goes on from there.

`state.json` names every file that counts, with its SHA-256, and is replaced last: whatever else lies in the folder
is of no use and is removed. Another key (another recipe, source or version) or a damaged file starts anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hearth.compiler.calibrate.coded import CodedFile, file_hash
from hearth.schemas.errors import UsageError

STATE = "state.json"
VERSION = 2
F32 = NDArray[np.float32]
INTERVAL = 30.0  # seconds between states: what a kill costs at most, beside the stage it meets


@dataclass
class State:
    """After `stages` stages: the weights coded so far, what was found besides, and the matrices that go on, by name."""

    stages: int = 0
    coded: dict[str, CodedFile] = field(default_factory=dict)
    found: dict[str, Any] = field(default_factory=dict)
    held: dict[str, F32] = field(default_factory=dict)


@dataclass
class Work:
    """`key` (hex) is of everything that decides the result."""

    folder: Path
    key: str
    interval: float = INTERVAL
    _saved: float = field(default_factory=time.monotonic)

    def open(self) -> State:
        """The state of a run with this key, else an empty one in an empty folder."""
        if self.folder.exists() and not self._ours():
            raise UsageError(
                "usage.work",
                "the folder holds something else than the work of a compile",
                expected="a folder that is not there, is empty, or is left of a compile",
                where=str(self.folder),
                remedy="give another --work",
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        state = self._read() or State()
        self._clean(state, self._names(state))
        return state

    def due(self) -> bool:
        """Whether the last state is old enough."""
        return time.monotonic() - self._saved >= self.interval

    def save(self, state: State) -> None:
        """Matrices first, then the state that names them, then what it names no more is removed."""
        names = self._names(state)
        held = {name: self._store(file, state.held[name]) for name, file in names.items()}
        body = {
            "version": VERSION,
            "key": self.key,
            "stages": state.stages,
            "coded": {name: each.record() for name, each in state.coded.items()},
            "found": state.found,
            "held": held,
        }
        text = json.dumps(body, sort_keys=True)
        whole = json.dumps({"sha256": _digest(text), "state": body}, sort_keys=True)
        beside = self.folder / (STATE + ".part")
        beside.write_text(whole)
        os.replace(beside, self.folder / STATE)
        self._clean(state, names)
        self._saved = time.monotonic()

    def remove(self) -> None:
        """When the archive is there."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _ours(self) -> bool:
        if not self.folder.is_dir():
            return False
        names = {path.name for path in self.folder.iterdir()}
        return not names or all(
            name.startswith(("state.json", "held-", "coded-")) for name in names
        )

    def _names(self, state: State) -> dict[str, str]:
        return {
            name: f"held-{state.stages}-{place}.npy"
            for place, name in enumerate(sorted(state.held))
        }

    def _store(self, file: str, values: F32) -> dict[str, str]:
        path = self.folder / file
        beside = path.with_suffix(".part")
        with beside.open("wb") as stream:
            np.save(stream, values)
        os.replace(beside, path)
        return {"file": file, "sha256": file_hash(path) or ""}

    def _read(self) -> State | None:
        try:
            whole = json.loads((self.folder / STATE).read_text())
            body = whole["state"]
            text = json.dumps(body, sort_keys=True)
            if whole["sha256"] != _digest(text) or body["version"] != VERSION:
                return None
            if body["key"] != self.key:
                return None
            coded = {name: CodedFile.of(self.folder, each) for name, each in body["coded"].items()}
            if not all(each.whole() for each in coded.values()):
                return None
            held = {name: self._load(each) for name, each in body["held"].items()}
        except (OSError, ValueError, KeyError, TypeError, EOFError):
            return None
        return State(body["stages"], coded, body["found"], held)

    def _load(self, record: Mapping[str, str]) -> F32:
        path = self.folder / record["file"]
        if file_hash(path) != record["sha256"]:
            raise ValueError(f"{path.name} is damaged")
        values: F32 = np.load(path)
        return values

    def _clean(self, state: State, held: Mapping[str, str]) -> None:
        kept = {*(each.path.name for each in state.coded.values()), *held.values()}
        kept |= {STATE} if state.stages else set()
        for path in self.folder.iterdir():
            if path.name not in kept:
                path.unlink()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def key_of(parts: Mapping[str, Any]) -> str:
    """The key of named parts (plain data)."""
    return _digest(json.dumps(parts, sort_keys=True))
