"""Decoders of random shape under random schemes, with random passes left out: every op agrees in onnxruntime."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.agreement import Agreement
from support.graphs import MEASURELESS, Tiny, decoder

from hearth.compiler.ir.evaluate import State
from hearth.compiler.ir.verify import verify
from hearth.compiler.passes import FLOAT_PASSES, QUANTISED_PASSES, run_passes
from hearth.compiler.quantize import make_scheme, quantize
from hearth.compiler.quantize.schemes import F16, F32, INT4_G32, INT8

OPTIONAL = [each.name for each in (*FLOAT_PASSES, *QUANTISED_PASSES) if not each.required]

SHAPES = st.builds(
    lambda groups, half, rotated, **rest: Tiny(
        heads=groups * rest["kv_heads"], head_dim=2 * half, rotary=2 * min(half, rotated), **rest
    ),
    groups=st.integers(1, 3),
    half=st.integers(1, 9),
    rotated=st.integers(1, 9),
    layers=st.integers(1, 2),
    hidden=st.sampled_from([7, 20, 32, 64]),
    kv_heads=st.integers(1, 3),
    ffn=st.sampled_from([9, 32, 40]),
    vocab=st.integers(2, 70),
    tied=st.booleans(),
    bias=st.booleans(),
    window=st.integers(0, 6),
    kv=st.sampled_from(MEASURELESS),
    eps=st.sampled_from([1e-6, 1e-5, 1e-2]),
    seed=st.integers(0, 99),
)
SCHEMES = st.sampled_from(
    [(F32, "none"), (F16, "none"), (INT8, "none"), (INT8, "dynamic"), (INT4_G32, "dynamic")]
)


@settings(
    max_examples=20, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
@given(SHAPES, SCHEMES, st.frozensets(st.sampled_from(OPTIONAL)), st.data())
def test_random_decoders_agree(
    tiny: Tiny, scheme: tuple, skip: frozenset[str], data: st.DataObject
) -> None:
    graph = run_passes(FLOAT_PASSES, decoder(tiny), skip)
    graph = quantize(graph, make_scheme(*scheme, tiny.kv))
    graph = run_passes(QUANTISED_PASSES, graph, skip)
    verify(graph)
    token = st.integers(0, tiny.vocab - 1)
    first = data.draw(st.lists(token, min_size=1, max_size=9))
    checked = Agreement(graph, "prefill", logit_rows=data.draw(st.integers(1, len(first))))
    state = checked.check(first, State.empty())
    Agreement(graph, "decode", constants=checked.constants).check([data.draw(token)], state)
