"""Ollama's HTTP interface over the models that are served."""

from hearth.runtime.serving.ollama.routes import PART

__all__ = ["PART"]
