"""Kernels of torch's fused attention on CUDA: flash, memory-efficient or plain, never cuDNN's.

cuDNN builds an execution plan for each new shape and thread, which takes longer than ranking does, and every group of
passages has a shape of its own.
"""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, nullcontext
from typing import Final

import torch


class _WithoutCudnn:
    """Context in which fused attention leaves cuDNN out.

    The switch is the process's: the first thread that enters turns it off, and the last one that leaves restores what
    the caller had set. `torch.nn.attention.sdpa_kernel` would restore another thread's value.
    """

    def __init__(self) -> None:
        self._lock, self._inside, self._before = threading.Lock(), 0, True

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._before = torch.backends.cuda.cudnn_sdp_enabled()  # type: ignore[no-untyped-call]
                torch.backends.cuda.enable_cudnn_sdp(enabled=False)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                torch.backends.cuda.enable_cudnn_sdp(enabled=self._before)


_without_cudnn: Final = _WithoutCudnn()


def quick_kernels(device: torch.device) -> AbstractContextManager[None]:
    """Context for forward passes on a device."""
    return _without_cudnn if device.type == "cuda" else nullcontext()
