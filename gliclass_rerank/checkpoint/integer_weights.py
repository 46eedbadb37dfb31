"""Int8 storage of weights, a quarter of float32's size, read back as floats.

Every 64 neighbours in a matrix row share a scale (symmetric, largest magnitude 127); one scale per row would triple the
logit error of the bundled model. Norms and biases are stored in float16.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

from gliclass_rerank.errors import CheckpointError, shown

_SCALES: Final = ".scales"
_LARGEST: Final = 127
_GROUP: Final = 64
_LEAST: Final = 2.0**-24  # float16's smallest number


def to_integers(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Quantise weights for a file.

    Args:
        weights: FloatTensors by name.

    Returns:
        For each matrix [rows, columns] an int8 tensor and, under its name with `.scales`, a float16 one [rows, groups];
        the rest in float16. A row whose length is not a multiple of 64 is one group.
    """
    packed: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if tensor.ndim == 2:
            groups = _grouped(tensor.float())
            # In the file's precision before anything is divided by it; above 0 there.
            scales = (groups.abs().amax(dim=2) / _LARGEST).clamp(min=_LEAST).to(torch.float16)
            packed[name] = (groups / scales.float()[..., None]).round().clamp(-_LARGEST, _LARGEST).to(torch.int8)
            packed[name] = packed[name].view(tensor.shape)
            packed[name + _SCALES] = scales
        else:
            packed[name] = tensor.to(torch.float16)
    return packed


def from_integers(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Dequantise the weights of `to_integers`, matrices to float32; other weights pass unchanged.

    Args:
        weights: Content of a file.

    Returns:
        The weights.

    Raises:
        CheckpointError: Integers lack matching scales.
    """
    unpacked: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if name.endswith(_SCALES) and name.removesuffix(_SCALES) in weights:
            continue
        if tensor.dtype == torch.int8:
            scales = weights.get(name + _SCALES)
            is_matrix = tensor.ndim == 2 and tensor.numel() > 0
            if scales is None or not is_matrix or scales.shape != (tensor.shape[0], _num_groups(tensor.shape[1])):
                raise CheckpointError(
                    f"the weights hold integers in {shown(name)} without a scale for each group of them"
                )
            groups = _grouped(tensor.float())
            unpacked[name] = (groups * scales.float()[..., None]).view(tensor.shape)
        else:
            unpacked[name] = tensor
    return unpacked


def _grouped(matrix: Tensor) -> Tensor:
    """Reshape [rows, columns] to [rows, groups, columns per group]."""
    rows, columns = matrix.shape
    return matrix.reshape(rows, _num_groups(columns), -1)


def _num_groups(columns: int) -> int:
    return columns // _GROUP if columns % _GROUP == 0 else 1
