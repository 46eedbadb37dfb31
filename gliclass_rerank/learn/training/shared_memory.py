"""Weights and gradients in memory that several processes share.

An unnamed file, handed to the other processes as an open descriptor: nothing is left behind by a process that is
killed, and nobody else can open it.
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
    """Room for all parameters, and for the gradients of each process but the first.

    Args:
        file: Descriptor of a file of `size` bytes, which stays open as long as this lives.
        parameters: A model's parameters, float32; the same in every process.
        count: Processes.
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
        """Bytes it takes."""
        trained = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
        return 4 * (sum(parameter.numel() for parameter in parameters) + (count - 1) * trained)


def shared_file(size: int) -> int:
    """Make an unnamed file, in memory where the system has such files.

    Args:
        size: Its bytes.

    Returns:
        Its descriptor, for the caller to close.
    """
    if sys.platform == "linux":
        # Not a file in /dev/shm, which is small in containers: whoever writes beyond its end is killed.
        file = os.memfd_create("gliclass-rerank-training")
    else:
        with tempfile.TemporaryFile() as named:
            file = os.dup(named.fileno())
    os.truncate(file, size)
    return file


def _views(flat: Tensor, parameters: Sequence[nn.Parameter]) -> tuple[Tensor, ...]:
    parts = torch.split(flat, [parameter.numel() for parameter in parameters])
    return tuple(part.view_as(parameter) for part, parameter in zip(parts, parameters, strict=True))
