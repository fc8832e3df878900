"""The calibration text as windows of token ids."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hearth.compiler.calibrate.settings import Calibration
from hearth.compiler.frontend import SourceModel
from hearth.runtime.text.tokenizer import parse_tokenizer
from hearth.schemas.errors import UsageError, reason
from hearth.schemas.provenance import CalibrationFacts


@dataclass(frozen=True, eq=False)
class Text:
    """ids i32[windows, context], and what is recorded of them."""

    ids: NDArray[np.int32]
    facts: CalibrationFacts


def read_windows(calibration: Calibration, model: SourceModel) -> Text:
    """The first whole windows of the text, encoded at once without special tokens.

    A context above the model's is cut to that; fewer windows than wanted are what there is. UsageError
    calibration.text where the text cannot be read or has not one window, calibration.tokenizer without a tokenizer.
    """
    if model.assets.tokenizer_json is None:
        raise UsageError(
            "calibration.tokenizer",
            "the source has no tokenizer to read the calibration text with",
            expected="a tokenizer.json beside the weights",
            where=str(calibration.text),
        )
    data = _read(calibration.text)
    tokenizer = parse_tokenizer(model.assets.tokenizer_json, model.assets.tokenizer_config)
    found = tokenizer.encode(data.decode("utf-8"), add_special_tokens=False)
    ids = np.array([each for each in found if each < model.dims.vocab], np.int32)
    context = min(calibration.context, model.context)
    windows = min(calibration.windows, ids.size // context)
    if windows < 1:
        raise UsageError(
            "calibration.text",
            f"{ids.size} tokens",
            expected=f"at least one window of {context}",
            where=str(calibration.text),
            remedy="give a longer text, or a smaller --calibration-context",
        )
    digest = hashlib.sha256(data).hexdigest()
    used = ids[: windows * context].reshape(windows, context)
    facts = CalibrationFacts(digest, windows, context, windows * context, calibration.ranges)
    return Text(used, facts)


def _read(path: Path) -> bytes:
    try:
        data = path.read_bytes()
        data.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            "calibration.text",
            reason(error),
            expected="a file of UTF-8 text",
            where=str(path),
        ) from None
    return data
