"""The context: asked for, what the model was made for, at most 4096."""

from __future__ import annotations

from typing import Any

import pytest
from support.checkpoints import LLAMA
from support.configs import LLAMA3_SCALING, parse_config

from hearth.schemas.errors import UsageError

LONG_HEAD = {
    "type": "longrope",
    "short_factor": [1.0, 1.0, 1.5, 2.0],
    "long_factor": [1.0, 4.0, 9.0, 20.0],
    "original_max_position_embeddings": 4096,
}


@pytest.mark.parametrize(
    ("longest", "scaling", "asked", "context"),
    [
        (64, None, None, 64),
        (64, None, 64, 64),
        (64, None, 1, 1),
        (64, None, 65, None),
        (64, None, 0, None),
        (64, None, -1, None),
        (32768, None, None, 4096),
        (32768, None, 32768, 32768),
        (64, {"type": "linear", "factor": 4.0}, 256, 256),
        (64, {"type": "linear", "factor": 4.0}, 257, None),
        (131072, LLAMA3_SCALING, 8192 * 32, 8192 * 32),
        (131072, LLAMA3_SCALING, 8192 * 32 + 1, None),
        (131072, LONG_HEAD, None, 4096),
        (131072, LONG_HEAD, 131072, 131072),
        (131072, LONG_HEAD, 131073, None),
    ],
)
def test_context(
    longest: int, scaling: dict[str, Any] | None, asked: int | None, context: int | None
) -> None:
    values = {**LLAMA, "max_position_embeddings": longest, "rope_scaling": scaling}
    if context is not None:
        assert parse_config(values, context=asked).context == context
        return
    with pytest.raises(UsageError, match=f"context {asked}") as caught:
        parse_config(values, context=asked)
    assert caught.value.code == "context.out_of_range"
