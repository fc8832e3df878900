"""The surfaces that a server has, in the order in which they are asked for an error's form."""

from __future__ import annotations

from hearth.runtime.serving import openai
from hearth.runtime.serving.app import Part

SURFACES: tuple[Part, ...] = (openai.PART,)
