"""OpenVINO's core: one for the process, never freed.

On processors with AMX, a core gives the thread that first uses it an alternate signal stack, and frees that stack with
itself without taking it back. The next signal with a Python handler, Ctrl-C included, would then crash the process.
"""

from __future__ import annotations

import os
import threading
from functools import cache
from typing import Any, Final

from gliclass_rerank._imports import require_openvino
from gliclass_rerank.errors import BackendError
from gliclass_rerank.runtime.foreign_errors import as_backend_error

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

DEVICE: Final = "CPU"
_MAKING: Final = threading.Lock()
_made: Final[list[Any]] = []  # Any: openvino has no types
_used_in: Final[list[int]] = []  # first process to compute; its forks cannot


def the_core() -> Any:
    """Get the process's core; `MissingDependencyError` without OpenVINO."""
    openvino = require_openvino()
    with _MAKING:
        if not _made:
            _made.append(openvino.Core())
        return _made[0]


def can_use_openvino() -> bool:
    """Tell whether this process may compute with OpenVINO: it was not forked from one that has."""
    return not _used_in or _used_in[0] == os.getpid()


def has_bounded_memory() -> bool:
    """Tell whether an allocation of this process may fail (`ulimit -v`), which can crash OpenVINO."""
    return resource is not None and resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY


def use_openvino() -> None:
    """Note that this process computes with OpenVINO, which in a fork may wait for ever for the parent's threads.

    Raises:
        BackendError: The parent process has computed with it.
    """
    if not _used_in:
        _used_in.append(os.getpid())
    if not can_use_openvino():
        raise BackendError(
            "openvino does not survive a fork: this process was forked from one that had loaded a model for the "
            "backend 'openvino'; load it after the fork only, or start processes with the method 'spawn'"
        )


@cache
def has_bfloat16() -> bool:
    """Ask OpenVINO for the processor's bfloat16 support; `MissingDependencyError` without OpenVINO."""
    core = the_core()
    with as_backend_error("openvino could not be asked what the processor can"):
        return "BF16" in core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")
