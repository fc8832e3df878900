"""Chat templates give the text that transformers gives, or fail where it fails."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest
from support.data import TEMPLATE_CASES

from hearth.runtime.text.chat_template import ChatTemplate
from hearth.schemas.errors import HearthError

utils = pytest.importorskip(
    "transformers.utils.chat_template_utils", reason="needs the parity extra"
)

SPECIAL = {"bos_token": "<BOS>", "eos_token": "<EOS>"}
CALL = {"type": "function", "function": {"name": "look", "arguments": {"where": "up & <down>"}}}
TOOL = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Look at the sky.",
        "parameters": {
            "type": "object",
            "properties": {"where": {"type": "string", "description": "where to"}},
            "required": ["where"],
        },
    },
}
USER = {"role": "user", "content": "Why is the sky blue? äöü <b>"}
TALKS = {
    "question": [USER],
    "system": [{"role": "system", "content": " Be brief.\n"}, USER],
    "answered": [USER, {"role": "assistant", "content": "Air."}, USER],
    "tool": [
        USER,
        {"role": "assistant", "content": "", "tool_calls": [{"id": "abcdefghi", **CALL}]},
        {"role": "tool", "content": "blue", "tool_call_id": "abcdefghi", "name": "look"},
    ],
}


@pytest.mark.parametrize("tools", [None, [TOOL]], ids=["no_tools", "tools"])
@pytest.mark.parametrize("talk", TALKS)
@pytest.mark.parametrize("path", TEMPLATE_CASES, ids=lambda path: path.stem)
def test_equal_text(
    path: Path, talk: str, tools: list[dict[str, object]] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: object = None) -> Clock:
            return cls(2026, 1, 2, 3, 4, 5)

    monkeypatch.setattr(utils, "datetime", Clock)
    source, messages = path.read_text(), TALKS[talk]
    for prompt in (True, False):
        theirs: str | None
        try:
            theirs = utils.render_jinja_template(
                [messages],
                tools=tools,
                chat_template=source,
                add_generation_prompt=prompt,
                **SPECIAL,
            )[0][0]
        except Exception:
            theirs = None
        ours: str | None
        try:
            template = ChatTemplate(source, SPECIAL, Clock.now)
            ours = template.render(messages, tools=tools, add_generation_prompt=prompt)
        except HearthError:
            ours = None
        assert ours == theirs
