"""Answers of a given form (JSON, a schema, a regular expression, a grammar), token by token through llguidance."""

from hearth.runtime.grammar.constraint import GrammarConstraint, Grammars
from hearth.runtime.grammar.wishes import (
    Ebnf,
    GrammarWish,
    JsonObject,
    JsonSchema,
    Lark,
    Regex,
)

__all__ = [
    "Ebnf",
    "GrammarConstraint",
    "GrammarWish",
    "Grammars",
    "JsonObject",
    "JsonSchema",
    "Lark",
    "Regex",
]
