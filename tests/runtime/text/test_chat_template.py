"""Published chat templates render, or say clearly why not; the sandbox holds."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest
from support.data import TEMPLATE_CASES, TEMPLATES, real

from hearth.runtime.text.chat_template import ChatTemplate
from hearth.schemas.errors import ArchiveError, HearthError, InputError

SPECIAL = {"bos_token": "<BOS>", "eos_token": "<EOS>"}
QUESTION = [{"role": "user", "content": "Why is the sky blue?"}]
TALK = [
    {"role": "system", "content": "Be brief."},
    *QUESTION,
    {"role": "assistant", "content": "Air scatters blue light."},
    {"role": "user", "content": "And <red> at dusk?"},
]
WHERE = {"type": "string", "description": "where to"}
TOOL = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Look at the sky.",
        "parameters": {"type": "object", "properties": {"where": WHERE}},
    },
}
# Templates that cannot do without tools, and what they read them by.
NEED_TOOLS = {
    "CohereForAI-c4ai-command-r-plus-tool_use": {"tools": [TOOL]},
    "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use": {"tools": [TOOL]},
    "NousResearch-Hermes-3-Llama-3.1-8B-tool_use": {"tools": [TOOL]},
    "fireworks-ai-llama-3-firefunction-v2": {"functions": "look(where)", "datetime": "now"},
}
# Those that do not take a system message: by their own words, and by a fault of the template.
FAIL = {
    ("google-gemma-2-2b-it", "talk"): ("input.chat_refused", "System role not supported"),
    ("MiroThinker", "talk"): ("input.chat_failed", "cannot assign attribute"),
}


def render(source: str, messages: object = QUESTION, **variables: object) -> str:
    template = ChatTemplate(source, SPECIAL, lambda: datetime(2026, 1, 2, 3, 4, 5))
    return template.render(messages, variables=variables)  # type: ignore[arg-type]


def test_all_published_templates_are_there() -> None:
    real("templates/chat")
    assert len(TEMPLATES) == 55


@pytest.mark.parametrize("path", TEMPLATE_CASES, ids=lambda path: path.stem)
@pytest.mark.parametrize("name", ["question", "talk"])
def test_published_templates_render(path: Path, name: str) -> None:
    messages = QUESTION if name == "question" else TALK
    needed = NEED_TOOLS.get(path.stem, {})
    failure = FAIL.get((path.stem, name))
    if failure is None:
        assert messages[-1]["content"] in render(path.read_text(), messages, **needed)
        return
    with pytest.raises(InputError, match=failure[1]) as refused:
        render(path.read_text(), messages, **needed)
    assert refused.value.code == failure[0]


@pytest.mark.parametrize("name", NEED_TOOLS)
def test_templates_that_need_tools_say_so(name: str) -> None:
    path = real("templates/chat", f"{name}.jinja")
    with pytest.raises(InputError, match="fails on these messages"):
        render(path.read_text())


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{% for m in messages %}\n  {{ m.content }}\n{% endfor %}", "  Why is the sky blue?\n"),
        ("{{ bos_token }}{{ messages[0]['role'] }}{{ eos_token }}", "<BOS>user<EOS>"),
        ("{{ {'a': '<ü>', 'b': 1} | tojson }}", '{"a": "<ü>", "b": 1}'),
        ("{{ {'b': 1, 'a': 2} | tojson(sort_keys=True, indent=1) }}", '{\n "a": 2,\n "b": 1\n}'),
        ("{{ strftime_now('%d %b %Y') }}", "02 Jan 2026"),
        ("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "01"),
        (
            "a{% generation %}b{{ messages[0].content }}{% endgeneration %}c",
            "abWhy is the sky blue?c",
        ),
        ("{% set x = 1 %}{% generation %}{% set x = 2 %}{{ x }}{% endgeneration %}{{ x }}", "21"),
        ("{{ tools is none }}{{ documents is none }}{{ add_generation_prompt }}", "TrueTrueTrue"),
        ("{{ missing }}|{{ enable_thinking }}", "|no"),
        ("{% set ns = namespace(n=1) %}{% set ns.n = 2 %}{{ ns.n }}", "2"),
    ],
)
def test_what_templates_may_use(source: str, text: str) -> None:
    assert render(source, enable_thinking="no") == text


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("{% if %}", "archive.chat_template"),
        ("{{ raise_exception('no ' ~ messages[0].role) }}", "input.chat_refused"),
        ("{{ messages.append(1) }}", "archive.chat_template"),
        ("{{ messages[0].update({}) }}", "archive.chat_template"),
        ("{{ ''.__class__.__mro__ }}", "archive.chat_template"),
        ("{{ cycler.__init__.__globals__ }}", "archive.chat_template"),
        ("{{ missing.name }}", "input.chat_failed"),
        ("{{ 1 / 0 }}", "input.chat_failed"),
        ("{{ messages['x'] + 1 }}", "input.chat_failed"),
        ("{{ range(10000000) }}", "input.chat_failed"),
        ("{% include 'x' %}", "input.chat_failed"),
    ],
)
def test_failures_are_told_apart(source: str, code: str) -> None:
    with pytest.raises(HearthError) as refused:
        render(source)
    assert refused.value.code == code


@pytest.mark.parametrize(
    "messages", [[], ["hello"], [{"content": "x"}], [{"role": None, "content": "x"}], [None]]
)
def test_messages_must_have_roles(messages: object) -> None:
    with pytest.raises(InputError) as refused:
        render("", messages)
    assert refused.value.code == "input.messages"


def test_keys_without_a_value_are_dropped() -> None:
    message = {"role": "user", "content": "a", "tool_calls": None}
    assert render("{{ messages[0] | tojson }}", [message]) == '{"role": "user", "content": "a"}'


def test_a_template_sees_plain_data() -> None:
    message = {"role": "user", "content": [Path("x"), True, 1.5, None]}
    shown = render("{{ messages[0].content | tojson }}", [message])
    assert shown == '["<PosixPath>", true, 1.5, null]'


def test_an_error_of_the_archive_names_the_line() -> None:
    with pytest.raises(ArchiveError, match=r"line 2"):
        render("a\n{% endif %}")
