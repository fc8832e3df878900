"""`hearth chat` with its input in a pipe: messages, every command, refusals, objects for programs."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.command_line import hearth
from support.lora import write_peft

from hearth.runtime.chat.commands import COMMANDS

if TYPE_CHECKING:
    from conftest import Archives

Objects = list[dict[str, Any]]
Chat = Callable[..., Objects]


@pytest.fixture(scope="module")
def file(archives: Archives) -> Path:
    return archives("hearthside", weights="int4")


@pytest.fixture
def talk(file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Chat:
    """The objects that the given lines lead to."""

    def talk(*lines: str, options: tuple[str, ...] = ()) -> Objects:
        typed = io.TextIOWrapper(io.BytesIO("\n".join(lines).encode()))
        monkeypatch.setattr(sys, "stdin", typed)
        assert hearth("chat", file, "--json", "--max-tokens", 12, "--temperature", 0, *options) == 0
        captured = capsys.readouterr()
        assert captured.err == ""
        return [json.loads(line) for line in captured.out.splitlines()]

    return talk


def test_a_talk(talk: Chat) -> None:
    first, second = talk("Once there was a fox.", "And then?")
    assert first["finish_reason"] in ("stop", "length") and first["generated_tokens"] > 0
    assert first["cached_tokens"] == 0
    assert second["cached_tokens"] > first["prompt_tokens"] - 2  # what was read is not read again
    assert talk("Once there was a fox.", "And then?")[1]["answer"] == second["answer"]


def test_plain_text_for_people(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], talk: Chat
) -> None:
    answer = talk("A fox.")[0]["answer"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"A fox.\n/list\n/nothing\n")))
    assert hearth("chat", file, "--max-tokens", 12, "--temperature", 0, "--stats") == 0
    captured = capsys.readouterr()
    assert captured.out == f"{answer}\n"  # of a pipe the answers alone
    assert "* chat: 2 messages" in captured.err and "chat.command" in captured.err
    assert "wrote 12 tokens" in captured.err or "wrote" in captured.err


def test_every_command(talk: Chat, tmp_path: Path) -> None:
    saved, text = tmp_path / "talk.ctx", tmp_path / "talk.txt"
    found = talk(
        "A fox.",
        f"/save {saved}",
        "/fork other",
        "A bear.",
        "/list",
        "/rewind",
        "/rename bears",
        "/switch chat",
        f"/export {text}",
        "/stats",
        "/new third Be brief.",
        "/system",
        "/system Be long.",
        "/system",
        "/adapter",
        f"/load {saved}",
        "A bear.",
        "/clear",
        "/export",
        "/help",
        "/bye",
        "never read",
    )
    answers = [each["answer"] for each in found if "answer" in each]
    assert len(answers) == 3 and answers[1] == answers[2]  # after the fork, after the load
    said = {each["command"]: each for each in found if "command" in each}
    assert said["/list"] == {
        "command": "/list",
        "conversations": ["chat", "other"],
        "current": "other",
    }
    assert said["/rewind"]["messages"] == 2
    assert said["/switch"] == {"command": "/switch", "conversation": "chat", "messages": 2}
    assert text.read_text() == f"user: A fox.\n\nassistant: {answers[0]}\n"
    assert 0 < said["/stats"]["tokens"] < said["/stats"]["context"] == 512
    assert [each["system"] for each in found if each.get("command") == "/system"] == [
        "Be brief.",
        "Be long.",
        "Be long.",
    ]
    assert said["/adapter"] == {"command": "/adapter", "adapter": None, "scale": None, "known": []}
    assert said["/load"] == {"command": "/load", "conversation": "chat", "messages": 2}
    assert said["/export"]["export"].strip() == ""
    assert set(said["/help"]["commands"]) == {each.names[0] for each in COMMANDS}
    assert not any("error" in each for each in found), found


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("/nothing", "chat.command"),
        ("/save", "chat.command"),
        ("/rewind", "arguments.turns"),
        ("/rewind two", "chat.command"),
        ("/switch nowhere", "arguments.conversation"),
        ("/new chat", "arguments.conversation"),
        ("/adapter nothing", "arguments.adapter"),
        ("/load /no/such/file", "context.not_found"),
        ("/save /no/such/folder/file", "resource.unwritable"),
        ("/export /no/such/folder/file", "resource.unwritable"),
        ("/resume", "arguments.resume"),
    ],
)
def test_what_fails_is_said_and_the_chat_goes_on(talk: Chat, line: str, code: str) -> None:
    error, after = talk(line, "A fox.")
    if line.startswith("/export"):
        assert error["error"]["code"] == code
    assert error["error"]["code"] == code
    assert after["answer"]


def test_messages_of_several_lines_and_with_a_slash(talk: Chat) -> None:
    *_, export = talk('"""', "one", "two", '"""', "//three", "", "/export")
    assert "user: one\ntwo\n" in export["export"] and "user: /three\n" in export["export"]
    assert export["export"].count("user:") == 2


def test_an_adapter_answers_until_it_is_off(
    archives: Archives,
    file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with_poet = Path(shutil.copy(file, tmp_path / "poet.har"))
    peft = write_peft(tmp_path / "peft", archives.checkpoint("hearthside"))
    assert hearth("lora", "add", with_poet, "poet", peft) == 0
    capsys.readouterr()
    lines = b"A fox.\n/rewind\n/adapter poet 0.5\n/list\n/adapter off\nA fox.\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
    assert hearth("chat", with_poet, "--json", "--max-tokens", 12, "--temperature", 0) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert found[2] == {"command": "/adapter", "adapter": "poet", "scale": 0.5, "known": ["poet"]}
    assert found[4]["adapter"] is None and found[5]["answer"] == found[0]["answer"]


def test_options(talk: Chat, tmp_path: Path) -> None:
    saved = tmp_path / "talk.ctx"
    talk("A fox.", f"/save {saved}")
    loaded, _, export = talk("A bear.", "/export", options=("--load", str(saved)))
    assert loaded["messages"] == 2 and export["export"].startswith("user: A fox.")
    _, system = talk("A fox.", "/system", options=("--system", "Be brief."))
    assert system["system"] == "Be brief."


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (("--full", "sideways"), "arguments.full"),
        (("--temperature", "-1"), "arguments.temperature"),
        (("--adapter", "none of it"), "arguments.adapter"),
        (("--load", "/no/such/file"), "context.not_found"),
    ],
)
def test_bad_options_are_refused_before_anything_is_read(
    file: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], code: str
) -> None:
    assert hearth("chat", file, *options) in (2, 4)
    assert code in capsys.readouterr().err


def test_an_archive_without_a_template_is_refused(
    archives: Archives, capsys: pytest.CaptureFixture[str]
) -> None:
    assert hearth("chat", archives("stories260K", weights="int8", context=64)) == 5
    assert "input.not_in_archive" in capsys.readouterr().err
