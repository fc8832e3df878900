"""The caller's wishes go over the archive's generation_config.json."""

from __future__ import annotations

import json

import pytest

from hearth.runtime.generation.defaults import Defaults, Wishes, read_defaults
from hearth.runtime.sampling import Sampling
from hearth.schemas.errors import ArchiveError, UsageError

QWEN = {
    "do_sample": True, "temperature": 0.7, "top_k": 20, "top_p": 0.8, "eos_token_id": [7, 8],
    "max_new_tokens": 99, "repetition_penalty": 1.05,
}  # fmt: skip


def sampled(config: dict[str, object], **wishes: object) -> Sampling:
    defaults = read_defaults(json.dumps(config).encode(), ())
    return defaults.request(Wishes(**wishes), fresh_seed=5).sampling  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("config", "wishes", "expected"),
    [
        ({}, {}, Sampling(0.0, seed=5)),
        ({"do_sample": False, "temperature": 0.7}, {}, Sampling(0.0, seed=5)),
        (QWEN, {}, Sampling(0.7, 20, 0.8, repetition_penalty=1.05, seed=5)),
        (QWEN, {"temperature": 0.0}, Sampling(0.0, 20, 0.8, repetition_penalty=1.05, seed=5)),
        (
            QWEN,
            {"temperature": 1.5, "top_k": 0, "seed": 1},
            Sampling(1.5, 0, 0.8, repetition_penalty=1.05, seed=1),
        ),
        ({}, {"temperature": 0.5}, Sampling(0.5, seed=5)),
        ({}, {"top_p": 0.5}, Sampling(1.0, 0, 0.5, seed=5)),
        ({}, {"seed": 3}, Sampling(1.0, seed=3)),
        ({"do_sample": True}, {}, Sampling(1.0, seed=5)),
        ({}, {"min_p": 0.1, "seed": 1}, Sampling(1.0, min_p=0.1, seed=1)),
        ({"repetition_penalty": 1.1}, {}, Sampling(0.0, repetition_penalty=1.1, seed=5)),
        ({"repetition_penalty": 1.1}, {"repetition_penalty": 1.0}, Sampling(0.0, seed=5)),
        (
            {},
            {"frequency_penalty": 0.5, "logit_bias": ((3, 1.0),), "banned": (4,)},
            Sampling(0.0, frequency_penalty=0.5, logit_bias=((3, 1.0),), banned=(4,), seed=5),
        ),
    ],
)
def test_sampling(config: dict[str, object], wishes: dict[str, object], expected: Sampling) -> None:
    assert sampled(config, **wishes) == expected


def test_stop_ids_and_limits() -> None:
    defaults = read_defaults(json.dumps(QWEN).encode(), (1,))
    request = defaults.request(Wishes(), 0)
    assert (request.stop_ids, request.max_tokens) == (frozenset((7, 8)), 99)
    assert defaults.request(Wishes(max_tokens=3), 0).max_tokens == 3
    assert defaults.request(Wishes(ignore_eos=True), 0).stop_ids == frozenset()
    assert read_defaults(None, (1, 2)) == Defaults(stop_ids=frozenset((1, 2)))
    assert read_defaults(b'{"eos_token_id": 3}', (1,)).stop_ids == frozenset((3,))


@pytest.mark.parametrize(
    "data",
    [
        b"{", b"[]", b"\xff", b'{"eos_token_id": "x"}', b'{"eos_token_id": [1, "x"]}',
        b'{"eos_token_id": true}', b'{"temperature": "hot"}', b'{"top_k": 1.5}',
        b'{"temperature": 1' + b"0" * 400 + b"}", b"[" * 100_000,
    ],
)  # fmt: skip
def test_a_file_that_makes_no_sense_is_refused(data: bytes) -> None:
    with pytest.raises(ArchiveError) as refused:
        read_defaults(data, ())
    assert refused.value.code == "archive.generation_config"


def test_values_out_of_range_are_refused() -> None:
    with pytest.raises(UsageError):
        sampled({}, temperature=-1.0)
