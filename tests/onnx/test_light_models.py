"""Real topologies with made-up weights (onnx-light), against the outputs that the standard stores beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from support.data import real
from support.onnx_graphs import compiled, difference, engine, values

NAMES = (
    "bvlc_alexnet", "densenet121", "inception_v1", "inception_v2", "resnet50", "shufflenet",
    "squeezenet", "vgg19", "zfnet512",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_gives_the_stored_outputs(name: str, tmp_path: Path) -> None:
    source = real("onnx", "onnx-light", f"light_{name}.onnx")
    stored = onnx.TensorProto.FromString(source.with_name(f"light_{name}_output_0.pb").read_bytes())
    model = compiled(source, tmp_path / "model.har")
    (port,) = model.inputs
    shape = (1, 3, 224, 224)
    assert port.shape == shape
    # as the standard's runner fills inputs of its light models
    count = int(np.prod(shape))
    given = {port.name: (np.arange(count).reshape(shape) / count).astype(np.float32)}
    found = model.run(given)[model.outputs[0].name]
    assert difference(found, values(stored), rtol=1e-3, atol=1e-7) == ""
    (alone,) = engine(onnx.load(source)).run(given).values()
    # repacked weights change the order of sums: 2e-4 relative to the largest, as for all f32 models
    assert np.abs(found - alone).max() <= 2e-4 * np.abs(alone).max()
