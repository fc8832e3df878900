"""The surfaces that a server has, in the order in which they are asked for an error's form."""

from __future__ import annotations

from hearth.runtime.serving import ollama, openai, page
from hearth.runtime.serving.app import Part

SURFACES: tuple[Part, ...] = (openai.PART, ollama.PART, page.make_part())
