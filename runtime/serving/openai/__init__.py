"""OpenAI's HTTP interface: what it takes is parsed into frozen dataclasses, what it gives is built from them."""

from hearth.runtime.serving.openai.routes import PART

__all__ = ["PART"]
