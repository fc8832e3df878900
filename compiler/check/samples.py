"""The texts and chats whose golden vectors every archive with a tokenizer carries."""

# ruff: noqa: RUF001 (letters that look alike are what these texts are for)
from __future__ import annotations

from collections.abc import Mapping, Sequence

from hearth.schemas.golden import Turn

# What a decoder reads: one sentence, and several paragraphs, which are cut where enough ids are made.
SHORT = "The quick brown fox jumps over the lazy dog."
LONG = (
    "A lighthouse keeper counted ships at dusk: three, then seven, then none for 40 minutes. "
    "She wrote each name in a ledger, with the hour (20:15), the wind, and a word about the sky.\n\n"
    "def count(ships):\n    return sum(1 for ship in ships if ship.lights)\n\n"
    "In winter the ledger stayed shut. Ice held the harbour, gulls walked where boats had lain, "
    "and the lamp turned for nobody; yet it turned, every night, because that was the promise.\n"
    "“Why?” asked the boy. “Because,” she said, “somebody may come.” "
)

TEXTS: tuple[str, ...] = (
    "",
    " ",
    "a",
    "Hello, world!",
    "  two leading spaces and two trailing  ",
    "tabs\tand\nnew\r\nlines\n\n\n\nand a run of            spaces",
    "\u00a0no-break\u2003em\u200bzero-width\u3000ideographic",
    "0 1 12 123 1234 12345 3.14159 1,000,000 0x1F 2024-01-01",
    'def f(x: int) -> str:\n    return f"{x!r}"  # ok\n\tif x >= 10: y = x**2 // 3',
    '{"key": [1, 2.5e-3, null, true], "path": "C:\\\\temp\\\\new"}',
    "<p class='x'>&amp; &lt;tag&gt;</p> https://example.org/a?b=c&d=e#f",
    "don't can't we'll I'm O'Neil's 'quoted' “curly” ‘single’ —dash– …",
    "ALL CAPS camelCase snake_case kebab-case MiXeD",
    "Zażółć gęślą jaźń; Größe, naïve café; Ångström; Þórr; ſmall",
    "e\u0301 vs \u00e9; A\u030a vs \u00c5; \ufb01 vs fi; ½ ² ℌ Ⅳ",
    "Привет, мир! Γειά σου Κόσμε. Բարեւ",
    "你好，世界。今天天气很好！繁體字",
    "こんにちは世界、カタカナとひらがな。한국어 문장입니다.",
    "مرحبا بالعالم، كيف حالك؟ שלום עולם",
    "नमस्ते दुनिया। ไทยไม่มีช่องว่าง ខ្មែរ தமிழ்",
    "👍 👍🏽 👨\u200d👩\u200d👧\u200d👦 🇩🇪🇯🇵 ❤\ufe0f 🏳\ufe0f\u200d🌈 ☃",
    "∑∫√∞≠≤ α→β ⇒ ⟨x|y⟩ £€¥₹ ©®™",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𐍈 𓀀 \U0010fffd",
    "control \x00\x01\x07\x1b\x7f characters",
    "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft",
    "a" * 200,
    "ab" * 64 + " " * 64 + "\n" * 16,
    "!!!???...---===###***___///\\\\\\|||~~~^^^",
    "<s> </s> <unk> <pad> [CLS] [SEP] [MASK] <|endoftext|> <|im_start|>user<|im_end|> <bos><eos>",
    "\ufeffbyte order mark and \ufffd replacement",
    "Mr. Smith paid $5.00 (approx. £4) at 5 p.m. on the 3rd; see p. 7.",
)

_USER = Turn("user", "Why is the sky blue?")
_SYSTEM = Turn("system", "Be brief.")
_ANSWER = Turn("assistant", "Because air scatters blue light more than red.")
_AGAIN = Turn("user", "  And at sunset?\n")

# Each twice: with and without the words that open the answer.
CHATS: Mapping[str, Sequence[Turn]] = {
    "user": (_USER,),
    "system and user": (_SYSTEM, _USER),
    "several turns": (_USER, _ANSWER, _AGAIN),
    "system and several turns": (_SYSTEM, _USER, _ANSWER, _AGAIN),
}
