"""Adapters of sessions: names are checked, rows of a batch keep their own, nothing leaks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from support.fake_executor import FakeExecutor

from hearth.runtime.adapters import Adapter, AdapterUse
from hearth.runtime.batch import Turn, decode_together, step
from hearth.runtime.session import Session
from hearth.schemas.errors import UsageError

KNOWN = {name: Adapter(name, 4, "0" * 64) for name in ("poet", "clerk")}


def executor() -> FakeExecutor:
    return FakeExecutor(adapters=KNOWN)


@pytest.mark.parametrize(
    ("text", "use"), [("poet", AdapterUse("poet")), ("poet:0.5", AdapterUse("poet", 0.5))]
)
def test_a_use_as_the_command_line_has_it(text: str, use: AdapterUse) -> None:
    assert AdapterUse.parse(text) == use


@pytest.mark.parametrize("text", ["poet:", "poet:much", "poet:nan", "poet:inf"])
def test_a_scale_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        AdapterUse.parse(text)
    assert caught.value.code == "arguments.adapter"


def test_an_unknown_adapter_is_refused_and_changes_nothing() -> None:
    session = Session(executor(), adapter=AdapterUse("poet"))
    for refused in (
        lambda: session.use_adapter("pote"),
        lambda: session.use_adapter("poet", math.inf),
    ):
        with pytest.raises(UsageError) as caught:
            refused()
        assert caught.value.code == "arguments.adapter"
    assert session.adapter == AdapterUse("poet")
    with pytest.raises(UsageError, match="poet, clerk"):
        Session(executor(), adapter=AdapterUse("pote"))


def test_a_session_changes_its_adapter_anywhere_and_keeps_its_cache() -> None:
    session, plain = Session(executor()), FakeExecutor()
    session.prefill([1, 2, 3])
    session.use_adapter("poet", 0.5)
    found = session.decode(4)
    wanted = plain.logits(np.array([1, 2, 3, 4]), AdapterUse("poet", 0.5))
    assert np.array_equal(found, wanted)
    session.use_adapter(None)
    assert np.array_equal(session.decode(5), plain.logits(np.array([1, 2, 3, 4, 5])))


def test_rows_of_a_batch_keep_their_own_adapters() -> None:
    shared = executor()
    uses = [AdapterUse("poet"), None, AdapterUse("clerk", 2.0)]
    sessions = [Session(shared, adapter=use) for use in uses]
    step([Turn(session, [1, 2], 1) for session in sessions])
    rows = decode_together([(session, 3) for session in sessions])
    for use, row in zip(uses, rows, strict=True):
        assert np.array_equal(row, shared.logits(np.array([1, 2, 3]), use))
