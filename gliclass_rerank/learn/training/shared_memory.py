"""Shared memory of weights and gradients between processes.

An unnamed file, passed as an open descriptor: a killed process leaves nothing behind, and nobody else can open it.
"""

from __future__ import annotations

import mmap
import os
import sys
import tempfile
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class SharedMemory:
    """Shared memory of all parameters, and of each further process's gradients.

    Args:
        file: Descriptor of a file of `size` bytes, open as long as this lives.
        parameters: Float32 parameters of a model, the same in every process.
        count: Number of processes.
    """

    def __init__(self, file: int, parameters: Sequence[nn.Parameter], count: int) -> None:
        flat = torch.frombuffer(mmap.mmap(file, self.size(parameters, count)), dtype=torch.float32)
        sizes = [parameter.numel() for parameter in parameters]
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        num_trained = sum(parameter.numel() for parameter in trained)
        weights, *gradients = torch.split(flat, [sum(sizes), *[num_trained] * (count - 1)])
        self.weights = _views(weights, parameters)
        self.gradients = tuple(_views(part, trained) for part in gradients)

    @staticmethod
    def size(parameters: Sequence[nn.Parameter], count: int) -> int:
        """Required bytes."""
        trained = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
        return 4 * (sum(parameter.numel() for parameter in parameters) + (count - 1) * trained)


def shared_file(size: int) -> int:
    """Create an unnamed file of `size` bytes, in memory if supported; the caller closes the descriptor."""
    if sys.platform == "linux":
        # Not in /dev/shm, which is small in containers: writing beyond its end kills the process.
        file = os.memfd_create("gliclass-rerank-training")
    else:
        with tempfile.TemporaryFile() as named:
            file = os.dup(named.fileno())
    os.truncate(file, size)
    return file


def _views(flat: Tensor, parameters: Sequence[nn.Parameter]) -> tuple[Tensor, ...]:
    parts = torch.split(flat, [parameter.numel() for parameter in parameters])
    return tuple(part.view_as(parameter) for part, parameter in zip(parts, parameters, strict=True))
