"""Conversations: named ones side by side, and answers that depend on the messages alone."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hearth.runtime import Model, load
from hearth.runtime.contexts.conversation import Conversation
from hearth.runtime.contexts.prefix_cache import PrefixCache
from hearth.runtime.contexts.reply import Form
from hearth.runtime.generation.writing import Full
from hearth.runtime.tools.formats import HERMES
from hearth.runtime.tools.tool import ANY_ARGUMENTS, Tool
from hearth.schemas.errors import ArchiveError, HearthError, InputError, UsageError

if TYPE_CHECKING:
    from conftest import Archives

DRAW = {"temperature": 0.9, "seed": 5}
TEMPLATE_ROLES = ["user", "assistant"]


@pytest.fixture(scope="module")
def path(archives: Archives) -> Path:
    return archives("hearthside", weights="int4", kv="int8", context=256)


@pytest.fixture
def model(path: Path) -> Model:
    return load(path, threads=2)


def alone(path: Path, messages: list[dict[str, str]], **asked: object) -> str:
    """What a fresh model answers to these messages."""
    asked = {"max_tokens": 12, **DRAW, **asked}
    return "".join(load(path, threads=2).generate(messages, **asked))  # type: ignore[arg-type]


def say(talk: Conversation, text: str, **asked: object) -> str:
    return "".join(talk.send(text, **{"max_tokens": 12, **DRAW, **asked}))  # type: ignore[arg-type]


def refused(code: str, call: object, *given: object, **named: object) -> HearthError:
    with pytest.raises(HearthError) as found:
        call(*given, **named)  # type: ignore[operator]
    assert found.value.code == code
    return found.value


def test_answers_are_those_of_the_messages(model: Model, path: Path) -> None:
    talk = model.conversation("alice", system="Be brief.")
    messages = [{"role": "system", "content": "Be brief."}]
    for text in ("Hello there!", "And then?", "Why?"):
        messages.append({"role": "user", "content": text})
        answer = say(talk, text)
        assert answer == alone(path, messages)
        messages.append({"role": "assistant", "content": answer})
    assert talk.messages == tuple(messages)
    assert talk.last == answer
    assert talk.export().startswith("system: Be brief.\n\nuser: Hello there!\n\nassistant: ")


def test_what_was_read_is_not_read_again(model: Model) -> None:
    talk = model.conversation("alice")
    say(talk, "Hello there!", ignore_eos=True)
    before = talk.tokens
    reply = talk.send("And then?", max_tokens=3)
    next(reply)
    ids = model.encode(talk.messages[:3])
    pairs = enumerate(zip(before, ids, strict=False))
    shared = next((i for i, (one, other) in pairs if one != other), len(before))
    assert reply.cached_tokens == shared >= len(model.encode(talk.messages[:1]))
    assert reply.stats.prompt_tokens == len(ids) - shared


def test_a_system_prompt_is_shared_between_conversations(model: Model) -> None:
    system = "You tell long and winding stories about the hearth."
    first = model.conversation("a", system=system)
    say(first, "Begin.")
    second = model.conversation("b", system=system)
    reply = second.send("Go on.", max_tokens=2, **DRAW)  # type: ignore[arg-type]
    list(reply)
    assert reply.cached_tokens >= len(model.tokenizer.encode(system)) - 2


def test_trap_answers_that_change_with_cache_hits(path: Path) -> None:
    """The same turns with the model's cache full, empty and switched off."""
    answers = []
    for nbytes in (0, 1 << 14, 1 << 28):
        model = load(path, threads=2)
        model.__dict__["prefixes"] = PrefixCache(nbytes)
        for name in ("a", "b", "c"):
            talk = model.conversation(name, system="Be brief and kind.")
            answers.append([say(talk, text) for text in ("One", "Two")])
    assert all(each == answers[0] for each in answers)


def test_conversations_are_listed_switched_forked_and_renamed(model: Model) -> None:
    talks = model.conversations
    alice, bob = talks.create("alice"), talks.create("bob", system="Sing.")
    assert list(talks) == ["alice", "bob"]
    assert talks.current is bob
    assert talks.switch("alice") is alice
    talks.rename("alice", "carol")
    assert (list(talks), alice.name, talks.current) == (["carol", "bob"], "carol", alice)
    assert model.conversation("bob") is bob
    fork = talks.fork("bob", "dave")
    assert fork.system == "Sing."
    talks.remove("bob")
    assert list(talks) == ["carol", "dave"]
    assert talks.current is fork
    for code, call, given in (
        ("arguments.conversation", talks.create, ("carol",)),
        ("arguments.conversation", talks.create, ("",)),
        ("arguments.conversation", talks.__getitem__, ("bob",)),
        ("arguments.conversation", talks.rename, ("carol", "dave")),
        ("arguments.conversation", model.conversation, ("dave", "Dance.")),
    ):
        refused(code, call, *given)
    assert list(talks) == ["carol", "dave"]


def test_forks_go_their_own_ways(model: Model, path: Path) -> None:
    talk = model.conversation("alice")
    say(talk, "Hello there!")
    fork = model.conversations.fork("alice", "bob")
    one, two = say(talk, "Sing!"), say(fork, "Dance!")
    before = list(talk.messages[:2])
    assert one == alone(path, [*before, {"role": "user", "content": "Sing!"}])  # type: ignore[list-item]
    assert two == alone(path, [*before, {"role": "user", "content": "Dance!"}])  # type: ignore[list-item]


def test_rewind_and_clear(model: Model, path: Path) -> None:
    talk = model.conversation("alice", system="Be brief.")
    first = say(talk, "One")
    second = say(talk, "Two")
    say(talk, "Three")
    talk.rewind(2)
    assert [each["content"] for each in talk.messages] == ["Be brief.", "One", first]
    assert say(talk, "Two") == second
    refused("arguments.turns", talk.rewind, 3)
    refused("arguments.turns", talk.rewind, 0)
    assert len(talk.messages) == 5
    talk.clear()
    assert [each["role"] for each in talk.messages] == ["system"]
    assert say(talk, "One") == first


@pytest.mark.parametrize("at", [0, 1, 4])
def test_trap_a_cancel_at_any_moment_leaves_it_usable(model: Model, path: Path, at: int) -> None:
    talk = model.conversation("alice")
    say(talk, "One")
    before = talk.messages
    reply = talk.send("Two", max_tokens=30, ignore_eos=True, **DRAW)  # type: ignore[arg-type]
    list(islice(reply, at))
    reply.cancel()
    assert list(reply) == []
    assert reply.finish_reason == "cancelled"
    if not at:
        assert talk.messages == before
    else:
        assert [each["role"] for each in talk.messages[2:]] == TEMPLATE_ROLES
        assert talk.last == reply.text
    messages = [*talk.messages, {"role": "user", "content": "Three"}]
    assert say(talk, "Three") == alone(path, messages)  # type: ignore[arg-type]


def test_an_answer_left_alone_is_ended_by_the_next(model: Model, path: Path) -> None:
    talk = model.conversation("alice")
    reply = talk.send("Two", max_tokens=30, ignore_eos=True, **DRAW)  # type: ignore[arg-type]
    next(reply)
    messages = [*talk.messages, {"role": "user", "content": "Three"}]
    assert say(talk, "Three") == alone(path, messages)  # type: ignore[arg-type]
    assert list(reply) == []


def test_an_answer_goes_on_after_a_cancel(model: Model) -> None:
    talk, other = model.conversation("alice"), model.conversation("bob")
    whole = "".join(say(other, "Tell me more", max_tokens=30, ignore_eos=True))
    reply = talk.send("Tell me more", max_tokens=30, ignore_eos=True, **DRAW)  # type: ignore[arg-type]
    list(islice(reply, 3))
    reply.cancel()
    begun = reply.text
    assert begun + "".join(talk.resume()) == whole
    assert talk.messages[1:] == other.messages[1:]
    refused("arguments.resume", talk.resume)


@pytest.mark.parametrize("pieces", [1, 5])
def test_a_saved_conversation_goes_on_in_another_process(
    path: Path, tmp_path: Path, pieces: int
) -> None:
    model = load(path, threads=2)
    talk = model.conversation("alice", system="Be brief.")
    say(talk, "One")
    reply = talk.send("Two", max_tokens=40, ignore_eos=True, **DRAW)  # type: ignore[arg-type]
    begun = "".join(islice(reply, pieces))
    talk.save(tmp_path / "alice.ctx")
    rest = "".join(reply)
    other = load(path, threads=1).restore(tmp_path / "alice.ctx")
    assert (other.name, other.system, other.last) == ("alice", "Be brief.", begun)
    assert "".join(other.resume()) == rest
    assert other.messages == talk.messages
    assert say(other, "Three") == say(talk, "Three")


def test_design_9(path: Path, tmp_path: Path) -> None:
    model = load(path)
    talk = model.conversation("alice", system="Be brief.")
    answer = "".join(talk.send("Why is the sky blue?", temperature=0.7, top_p=0.9, max_tokens=20))
    talk.save(tmp_path / "alice.ctx")
    talk.clear()
    assert model.restore(tmp_path / "alice.ctx") is talk
    assert talk.last == answer


def test_what_cannot_be_restored_changes_nothing(
    archives: Archives, path: Path, tmp_path: Path
) -> None:
    model = load(path)
    talk = model.conversation("alice")
    say(talk, "One")
    messages, tokens = talk.messages, talk.tokens
    other = load(archives("hearthside", weights="int8", kv="int8", context=256))
    theirs = other.conversation("alice")
    say(theirs, "Two")
    theirs.save(tmp_path / "alice.ctx")
    with pytest.raises(ArchiveError) as found:
        model.restore(tmp_path / "alice.ctx")
    assert found.value.code == "context.archive"
    data = (tmp_path / "alice.ctx").read_bytes()
    (tmp_path / "bad.ctx").write_bytes(data[:-9])
    with pytest.raises(ArchiveError):
        model.restore(tmp_path / "bad.ctx")
    assert (talk.messages, talk.tokens, list(model.conversations)) == (messages, tokens, ["alice"])


def test_a_full_context(model: Model, path: Path) -> None:
    talk = model.conversation("alice")
    long = "Tell me a long story about a cat and a dog and a house. " * 30
    error = refused("input.context_full", talk.send, long)
    assert isinstance(error, InputError)
    assert talk.messages == ()
    reply = talk.send(long, full=Full.SLIDE, max_tokens=300, ignore_eos=True)
    list(reply)
    assert (reply.finish_reason, len(reply.tokens)) == ("length", 300)
    assert say(talk, "And?", full=Full.SLIDE) == say(talk_of(path, talk), "And?", full=Full.SLIDE)


def talk_of(path: Path, talk: Conversation) -> Conversation:
    """A fresh model's conversation with the messages that this one had before its last turn."""
    return Conversation(load(path), "fresh", talk.messages[:2])


def test_an_answer_that_slid_goes_on(model: Model, tmp_path: Path) -> None:
    talk = model.conversation("alice")
    reply = talk.send("Go", full=Full.SLIDE, max_tokens=600, ignore_eos=True)
    list(islice(reply, 400))
    assert len(reply.tokens) > 256
    talk.save(tmp_path / "slid.ctx")
    rest = "".join(reply)
    model.conversations.restore(tmp_path / "slid.ctx", "bob")
    assert "".join(model.conversations["bob"].resume()) == rest


def test_messages_of_tools_are_read_as_the_template_says(model: Model) -> None:
    talk = model.conversation("alice")
    calls = [{"type": "function", "function": {"name": "f", "arguments": {}}}]
    sent = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": "", "tool_calls": calls},
        {"role": "tool", "content": "42"},
    ]
    list(talk.send(sent, max_tokens=2))
    assert [each["role"] for each in talk.messages] == ["user", "assistant", "tool", "assistant"]
    assert json.dumps(talk.messages)


def test_calls_are_read_back_as_openai_has_them(model: Model) -> None:
    form = Form(model.tokenizer, HERMES, (Tool("f", ANY_ARGUMENTS),))
    text = 'Well.\n<tool_call>{"name": "f", "arguments": {"x": 1}}</tool_call>'
    assert form.message(text) == {
        "role": "assistant",
        "content": "Well.",
        "tool_calls": [
            {
                "id": "call00001",
                "type": "function",
                "function": {"name": "f", "arguments": '{"x": 1}'},
            }
        ],
    }
    assert form.message("Well.") == {"role": "assistant", "content": "Well."}


def test_a_draft_changes_no_answer(model: Model) -> None:
    one, other = model.conversation("a"), model.conversation("b")
    asked = {"max_tokens": 60, "ignore_eos": True, "full": Full.SLIDE}
    for text in ("One", "Two two two two " * 20, "Three"):
        guessed = "".join(one.send(text, draft="lookup", **asked))  # type: ignore[arg-type]
        assert guessed == "".join(other.send(text, **asked))  # type: ignore[arg-type]


def test_a_finished_answer_is_whole_before_its_last_piece_is_taken(model: Model) -> None:
    """What was held back of it belongs to its last token."""
    talk = model.conversation("alice")
    reply = talk.send("One", max_tokens=12, stop="never to be seen", **DRAW)  # type: ignore[arg-type]
    while reply.finish_reason is None:
        next(reply)
    assert list(reply) == []
    assert talk.last == reply.text == say(model.conversation("bob"), "One")


def test_bad_messages_change_nothing(model: Model) -> None:
    talk = model.conversation("alice")
    refused("input.messages", talk.send, [])
    refused("input.messages", talk.send, {"content": "no role"})
    with pytest.raises(UsageError):
        talk.send("Hello", temperature=-1.0)
    assert talk.messages == ()
    assert talk.export() == "\n"
