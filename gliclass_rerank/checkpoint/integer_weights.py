"""Weights as integers in a file: a good quarter of float32's size, read back as floats.

Every 64 neighbours in a row of a matrix become int8 with a scale of their own (symmetric, the largest magnitude is
127). With one scale a row the logits of the bundled model move three times as far. Everything else, norms and biases,
is kept in float16.
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
    """Pack weights for a file.

    Args:
        weights: By name; FloatTensors.

    Returns:
        For each matrix [rows, columns] an int8 one and, under its name with `.scales`, a float16 one [rows, groups];
        the rest in float16. A row whose length is no multiple of 64 is one group.
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
    """Undo `to_integers`; weights of other files come back as they are.

    Args:
        weights: What a file holds.

    Returns:
        The weights, matrices of integers in float32.

    Raises:
        CheckpointError: Integers without scales that fit.
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
    """[rows, columns] to [rows, groups, columns of a group]."""
    rows, columns = matrix.shape
    return matrix.reshape(rows, _num_groups(columns), -1)


def _num_groups(columns: int) -> int:
    return columns // _GROUP if columns % _GROUP == 0 else 1
