"""The demo model compiled with every scheme of the KV cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hearth.compiler.ir.ops import tensor
from hearth.compiler.quantize import Scheme
from hearth.compiler.quantize.schemes import INT4_G32, INT8
from hearth.schemas.commands import KVScheme
from support.statics import coded_graph, float_model, measured, write_archive

HEARTHSIDE = Path(__file__).parents[2] / "models/hearthside"


def write_with_cache(kv: KVScheme, output: Path, context: int = 128) -> Path:
    """int4 weights, and the cache asked for; without tokenizer or golden vectors."""
    activations = "static" if kv is KVScheme.INT8_STATIC else "dynamic"
    scheme = Scheme(INT4_G32, INT8, activations, kv)
    first = KVScheme.F32 if kv is KVScheme.INT8_STATIC else kv
    model, graph = float_model(HEARTHSIDE, context, first)
    vocab = int(tensor(graph.entries["prefill"][0]).shape[1])
    ids = np.random.default_rng(7).integers(3, vocab, 60).tolist()
    statics = measured(graph, "prefill", ids) if kv is KVScheme.INT8_STATIC else None
    write_archive(model, coded_graph(graph, scheme, statics), scheme, output)
    return output
