"""Weights as integers in a file: a quarter of float32's size, read back as floats.

Each row of a matrix becomes int8 with a scale of its own (symmetric, the largest magnitude is 127); an entry moves by
half a step at most, 0.4 % of its row's largest. Everything else, norms and biases, is kept in float16.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

from gliclass_rerank.errors import CheckpointError

_SCALE: Final = ".row_scale"
_LARGEST: Final = 127


def to_integers(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Pack weights for a file.

    Args:
        weights: By name; FloatTensors.

    Returns:
        For each matrix [rows, columns] an int8 one and, under its name with `.row_scale`, a float32 one [rows, 1]; the
        rest in float16.
    """
    packed: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if tensor.ndim == 2:
            scale = tensor.float().abs().amax(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny) / _LARGEST
            packed[name] = torch.round(tensor.float() / scale).to(torch.int8)
            packed[name + _SCALE] = scale
        else:
            packed[name] = tensor.to(torch.float16)
    return packed


def from_integers(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Undo `to_integers`; weights of other files come back as they are.

    Args:
        weights: What a file holds.

    Returns:
        The weights, matrices of integers in float32.

    Raises:
        CheckpointError: Integers without a scale that fits.
    """
    unpacked: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if name.endswith(_SCALE) and name.removesuffix(_SCALE) in weights:
            continue
        if tensor.dtype == torch.int8:
            scale = weights.get(name + _SCALE)
            if scale is None or scale.shape != (tensor.shape[0], 1):
                raise CheckpointError(f"the weights hold integers in {name!r} without a scale for each row")
            unpacked[name] = tensor.float() * scale
        else:
            unpacked[name] = tensor
    return unpacked
