"""Settings outside their range are refused by name."""

from __future__ import annotations

import math
from typing import Any

import pytest

from hearth.runtime.sampling import Sampling
from hearth.schemas.errors import UsageError


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -0.1), ("temperature", math.nan), ("temperature", math.inf), ("top_k", -1),
        ("top_p", 0.0), ("top_p", 1.1), ("top_p", math.nan), ("seed", -1), ("seed", 2**64),
        ("min_p", -0.1), ("min_p", 1.1), ("min_p", math.nan), ("typical_p", 0.0), ("typical_p", 2.0),
        ("repetition_penalty", 0.0), ("repetition_penalty", -1.0), ("repetition_penalty", math.inf),
        ("presence_penalty", math.nan), ("frequency_penalty", math.inf), ("penalty_window", -1),
        ("logit_bias", ((-1, 1.0),)), ("logit_bias", ((1, math.nan),)), ("banned", (-1,)),
        ("logit_bias", ((1, 1.0), (1, 2.0))),
    ],
)  # fmt: skip
def test_values_out_of_range_are_refused(field: str, value: Any) -> None:
    with pytest.raises(UsageError) as refused:
        Sampling(**{field: value})
    assert refused.value.code == f"arguments.{field}"
