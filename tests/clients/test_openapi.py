"""schemathesis sends what the description allows and what it forbids; each answer is one that it describes."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, settings
from support.serve import KEY, Served

from hearth.runtime.serving.openai.description import describe

schemathesis = pytest.importorskip("schemathesis", reason="pip install hearth[clients]")
DESCRIPTION = describe(["tales", "tales:loud"], ["words"])
schema = schemathesis.openapi.from_dict(DESCRIPTION)
BOUNDED = settings(
    max_examples=50, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)


@pytest.mark.parametrize("key", [KEY], ids=["key"])  # without a parameter operations share an id
@schema.parametrize()
@BOUNDED
def test_every_answer_is_one_that_is_described(case: Any, key: str, served: Served) -> None:
    """Fields that contradict each other are refused too, so well-formed requests may be answered with 400."""
    case.call_and_validate(
        base_url=served.url,
        headers={"Authorization": f"Bearer {key}"},
        timeout=60,
        excluded_checks=[schemathesis.checks.positive_data_acceptance],
    )


def test_the_server_gives_the_description(served: Served) -> None:
    assert httpx.get(f"{served.url}/openapi.json").json() == DESCRIPTION
