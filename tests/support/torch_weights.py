"""Random weights for models of transformers (needs PyTorch)."""

from __future__ import annotations

from typing import Any

import numpy as np


def randomise(model: Any, rng: np.random.Generator) -> None:
    """Weights that keep activations of ordinary size; gains and biases that matter."""
    import torch  # an extra that ordinary tests do without

    for name, parameter in model.named_parameters():
        values = rng.standard_normal(tuple(parameter.shape))
        if name.endswith("bias"):
            values *= 0.5
        elif values.ndim == 1:
            values = 1 + 0.4 * values
        else:
            values *= values.shape[1] ** -0.5
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(values))
