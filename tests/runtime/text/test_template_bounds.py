"""Chat templates without end, or that would fill the memory, are refused soon; others are not in the way."""

from __future__ import annotations

import tracemalloc

import pytest

from hearth.runtime.text import template_bounds
from hearth.runtime.text.chat_template import ChatTemplate
from hearth.schemas.errors import HearthError

MESSAGES = [{"role": "user", "content": "hello"}]
MANY_TIMES = "{{% set ns = namespace(x='ab') %}}{{% for i in range(60) %}}{}{{% endfor %}}"
KEEPING = (
    "{{% set ns = namespace(all=[]) %}}{{% set x = 'a' * 1000000 %}}"
    "{{% for i in range(99999) %}}{{% set ns.all = ns.all + [{}] %}}{{% endfor %}}"
)
NESTED_LISTS = (
    "{{% set ns = namespace(x='a') %}}{{% for i in range(12) %}}{{% set ns.x = [ns.x] * 1000 %}}"
    "{{% endfor %}}{}"
)
TWINS = (
    "{{% set ns = namespace(x=[1], y=[1], t=(1, 2)) %}}{{% for i in range(60) %}}{{% set ns.x = [ns.x, ns.x] %}}"
    "{{% set ns.y = [ns.y, ns.y] %}}{{% set ns.t = (ns.t, ns.t) %}}{{% endfor %}}{}"
)
ENDLESS = {
    "loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "conditions": "{% for i in range(99999) if (range(99999) | list | length) == 1 %}{% endfor %}",
    "macros": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(40) }}",
    "tests": "{% for i in range(99999) %}{{ range(99999) | select('odd') | list | length }}{% endfor %}",
    "width_after_a_colon": "{{ ('{' ~ ':' * 4000000 ~ '1000000000}').format(1) }}",
    "twins_equal": TWINS.format("{{ ns.x == ns.y }}"),
    "twins_found": TWINS.format("{{ ns.x in [ns.y] }}"),
    "twins_tested": TWINS.format("{{ ns.x is eq(ns.y) }}"),
    "twins_selected": TWINS.format("{{ [ns.x] | select('eq', ns.y) | list }}"),
    "twins_sorted": TWINS.format("{{ [ns.x, ns.y] | sort | length }}"),
    "twins_mapped": TWINS.format("{{ [ns.x, ns.y] | map('default') | max | length }}"),
    "twins_hashed": TWINS.format("{% set d = {ns.t: 1} %}"),
    "twins_in_a_namespace": TWINS.format("{{ ns }}"),
    "twins_in_values": TWINS.format("{{ {'x': ns.x}.values() }}"),
    "twins_in_values_as_text": TWINS.format("{{ {'x': ns.x}.values() | string }}"),
    "twins_in_items": TWINS.format("{{ {'x': ns.x}.items() == {'x': ns.y}.items() }}"),
    "twins_in_values_formatted": TWINS.format("{{ '%s' % {'x': ns.x}.values() }}"),
    "twins_looked_up": TWINS.format("{{ {}[ns.t] }}"),
    "twins_named": TWINS.format("{{ 1 | attr(ns.t) }}"),
    "twins_in_lower_case": TWINS.format("{{ ns.x is lower }}"),
    "search_from_the_right": "{{ ('a' * 4000000).rfind('ab' ~ 'a' * 2000000) }}",
    "strip_of_many": "{{ ('a' * 4000000).strip('b' * 4000000 ~ 'a') }}",
    "trim_of_many": "{{ ('a' * 4000000) | trim('b' * 4000000 ~ 'a') }}",
}
LARGE = {
    "times": "{{ 'x' * 10**10 }}",
    "list_times": "{{ [1] * 10**10 }}",
    "power": "{{ 10 ** (10**9) }}",
    "squares": "{% set ns = namespace(x=3) %}{% for i in range(60) %}{% set ns.x = ns.x * ns.x %}{% endfor %}",
    "sums": MANY_TIMES.format("{% set ns.x = ns.x + ns.x %}"),
    "tildes": MANY_TIMES.format("{% set ns.x = ns.x ~ ns.x %}"),
    "joins": MANY_TIMES.format("{% set ns.x = [ns.x, ns.x] | join %}"),
    "join_methods": MANY_TIMES.format("{% set ns.x = ns.x.join(['a', 'b', 'c']) %}"),
    "replaces": MANY_TIMES.format("{% set ns.x = ns.x | replace('a', 'aaaa') %}"),
    "replace_methods": MANY_TIMES.format("{% set ns.x = ns.x.replace('a', 'aaaa') %}"),
    "blocks": MANY_TIMES.format("{% set y %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = y %}"),
    "percents": MANY_TIMES.format("{% set ns.x = '%s%s' % (ns.x, ns.x) %}"),
    "formats": MANY_TIMES.format("{% set ns.x = '{0}{0}'.format(ns.x) %}"),
    "kept_texts": KEEPING.format("x ~ i"),
    "kept_filtered": KEEPING.format("x | upper"),
    "kept_parts": KEEPING.format("x[i:]"),
    "mapped": "{% set x = 'a' * 1000000 %}{% set y = range(99999) | map('replace', '1', x) | list %}",
    "output": "{% for i in range(99999) %}{{ 'a' * 1000000 }}{% endfor %}",
    "lists_printed": NESTED_LISTS.format("{{ ns.x }}"),
    "lists_as_json": NESTED_LISTS.format("{{ ns.x | tojson }}"),
    "width": "{{ '%1000000000d' % 1 }}",
    "width_argument": "{{ '%*d' % (1000000000, 1) }}",
    "width_after_a_key": "{{ '%(a)1000000000d' % {'a': 1} }}",
    "width_after_an_odd_key": "{{ '%(a(b)c)1000000000d' % {'a(b)c': 1} }}",
    "width_filter": "{{ '%1000000000d' | format(1) }}",
    "width_field": "{{ '{:1000000000}'.format(1) }}",
    "width_nested": "{{ '{:{}}'.format(1, 1000000000) }}",
    "ljust": "{{ 'x'.ljust(10**10) }}",
    "center": "{{ 'x' | center(10**10) }}",
    "indent": "{{ 'x\ny' | indent(10**10) }}",
    "indent_of_json": "{{ [1] | tojson(indent=10**9) }}",
    "digits": "{{ 1.5 | round(10**9, 'floor') }}",
    "batch": "{{ [1] | batch(10**10, 1) | list }}",
    "bytes_of_an_integer": "{{ (1).to_bytes(10**10, 'big') }}",
    "brackets": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "blocks_in_blocks": "{% for a in [1] %}" * 30 + "{% endfor %}" * 30,
    "source": "{{ 1 }}" * 200_000,
    "many_fields": "{{ ('{0}' * 100000).format('x' * 1000000) }}",
    "many_percents": "{{ ('%(a)s' * 100000) % {'a': 'x' * 1000000} }}",
    "many_filtered": "{{ ('%(a)s' * 100000) | format(a='x' * 1000000) }}",
    "wide_lines": "{{ ('a\n' * 1000000) | indent(1000) }}",
    "wide_json": "{{ ([0] * 200000) | tojson(indent=1000) }}",
    "wide_separators": "{{ ([0] * 200000) | tojson(separators=('x' * 1000000, ':')) }}",
    "long_integers": "{{ ([10**4000] * 200000) | string }}",
    "characters": "{% set x = ('\U0001f600' * 300000) | list %}",
    "sorted_characters": "{% set x = ('\U0001f600' * 300000) | sort %}",
    "split_texts": "{% set x = ('\U0001f600 ' * 300000).split(' ') %}",
    "split_words": "{% set x = ('\U0001f600 ' * 300000).split() %}",
    "lines": "{% set x = ('\U0001f600\n' * 300000).splitlines() %}",
    "wide_years": "{{ strftime_now('%99999Y' * 100000) }}",
}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_bounds, "MOST_SECONDS", 0.1)
    monkeypatch.setattr(template_bounds, "MOST_MADE", 1 << 24)


def shown(source: str) -> str:
    """What is rendered, or the code of the refusal."""
    try:
        return render(source)
    except HearthError as refused:
        return refused.code


def render(source: str) -> str:
    return ChatTemplate(source, {}).render(MESSAGES)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", ENDLESS)
def test_work_without_end_is_refused(name: str) -> None:
    with pytest.raises(HearthError) as refused:
        render(ENDLESS[name])
    assert refused.value.code == "archive.chat_template"


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", LARGE)
def test_what_would_fill_the_memory_is_refused(name: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(HearthError) as refused:
            render(LARGE[name])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert refused.value.code == "archive.chat_template"
    assert peak < 128 << 20


def test_what_a_template_says_of_messages_is_cut_off() -> None:
    with pytest.raises(HearthError) as refused:
        render("{{ raise_exception('x' * 4000000) }}")
    assert refused.value.code == "input.chat_refused" and len(str(refused.value)) < 2000


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages | map(attribute='__class__') | list }}",
        "{{ '' | attr('__class__') }}",
        "{{ raise_exception.__globals__ }}",
        "{{ '{0.__class__}'.format(1) }}",
        "{{ namespace.__init__ }}",
        "{{ (1).real.__class__ }}",
    ],
)
def test_nothing_inside_python_is_seen(source: str) -> None:
    assert shown(source) in ("", "[Undefined]", "archive.chat_template")


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ 'In %d: %s' % (2026, 'x') }}", "In 2026: x"),
        ("{{ 'Cutoff 2024-06, %s' % 'x' }}", "Cutoff 2024-06, x"),
        ("{{ '%(n123)-4d|%(s)s %%' % {'n123': 12, 's': 'x'} }}", "12  |x %"),
        ("{{ '{:>4}{:.2f}'.format('a', 1.5) }}", "   a1.50"),
        ("{{ messages[0].content[1:3] ~ messages[0]['content'][::-1] }}", "elolleh"),
        ("{{ ['a', 1, none] | join(', ') ~ 2 }}", "a, 1, None2"),
        ("{{ messages | map(attribute='role') | join }}", "user"),
        (
            "{% for m in messages if m.role == 'user' %}{{ loop.index }}{% else %}no{% endfor %}",
            "1",
        ),
        ("{% macro f(x) %}<{{ x }}>{% endmacro %}{{ f(1) + f('a' * 3) }}", "<1><aaa>"),
        ("{{ 2 ** 10 + 3 * 4 % 5 }}", "1026"),
        (
            "{{ 'a' ~ [3, 1, 2] | sort | first ~ ([1] == [1]) ~ ('b' in messages[0].content) }}",
            "a1TrueFalse",
        ),
        (
            "{{ {'a': 1}['a'] ~ (1 is in([1, 2])) ~ ' xx '.strip() ~ 'a/b'.rsplit('/')[1] }}",
            "1Truexxb",
        ),
        ("{{ ('a b ' * 500000).split(' ', 1)[0] ~ ('ab ' * 200000).split() | length }}", "a200000"),
        ("{{ ('a\nbcdefgh' * 200000).splitlines() | length }}", "200001"),
        ("{{ ([1] + [2]) | tojson(indent=2) }}", "[\n  1,\n  2\n]"),
    ],
)
def test_what_templates_do_works(source: str, text: str) -> None:
    assert render(source) == text
