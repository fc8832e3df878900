"""Checkpoints in, graphs out: `load` gives a SourceModel."""

from hearth.compiler.frontend.assets import Assets
from hearth.compiler.frontend.config import ModelConfig
from hearth.compiler.frontend.huggingface import load
from hearth.compiler.frontend.rope_config import RopeConfig, RopeKind
from hearth.compiler.frontend.source import SourceModel

__all__ = ["Assets", "ModelConfig", "RopeConfig", "RopeKind", "SourceModel", "load"]
