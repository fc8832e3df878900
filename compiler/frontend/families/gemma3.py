"""Gemma 3 with a vision tower: what it makes of text, whose config and tensors lie within the whole model's."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hearth.compiler.frontend.blueprint import Blueprint, Request
from hearth.compiler.frontend.config_keys import check_unread
from hearth.compiler.frontend.families.gemma import GEMMA3_TEXT
from hearth.compiler.frontend.families.rotary import RotaryFamily
from hearth.compiler.frontend.fields import Fields

OF_PICTURES = (
    "vision_config", "mm_tokens_per_image", "boi_token_index", "eoi_token_index", "image_token_index",
)  # fmt: skip
STEM = "model.language_model."  # which adapters name, too
FORMER_BEGINNINGS = {"language_model.model.": STEM, "language_model.lm_head.": "lm_head."}
IGNORED = (
    "vision_tower.*",
    "model.vision_tower.*",
    "multi_modal_projector.*",
    "model.multi_modal_projector.*",
)
NOTE = "the vision tower is left out: the archive reads text alone"


@dataclass(frozen=True)
class WithVision:
    """A family whose text part is another one."""

    text: RotaryFamily
    model_type: str
    architectures: tuple[str, ...]
    bodies: tuple[str, ...] = ()

    def blueprint(self, fields: Fields, request: Request) -> Blueprint:
        """That of the text part."""
        for key in OF_PICTURES:
            fields.take(key)
        text = Fields(
            {
                **(fields.table("text_config") or {}),
                "tie_word_embeddings": fields.flag("tie_word_embeddings", True),
            },
            f"{fields.where}: text_config",
        )
        if text.text("model_type", self.text.model_type) != self.text.model_type:
            raise text.unsupported("model_type", self.text.model_type)
        made = self.text.blueprint(text, request)
        check_unread(text)
        return replace(
            made,
            beginnings=FORMER_BEGINNINGS,
            ignored=(*made.ignored, *IGNORED),
            notes=(*made.notes, NOTE),
        )


TEXT = replace(GEMMA3_TEXT, names=GEMMA3_TEXT.names.under(STEM), logit_cap=False)
GEMMA3 = WithVision(TEXT, "gemma3", ("Gemma3ForConditionalGeneration",))
