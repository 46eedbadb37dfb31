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
from gliclass_rerank.runtime.foreign_errors import as_backend_error

DEVICE: Final = "CPU"
_MAKING: Final = threading.Lock()
_made: Final[list[Any]] = []  # Any: openvino has no types
_made_in: Final[list[int]] = []  # process


def the_core() -> Any:
    """Get the process's core; `MissingDependencyError` without OpenVINO."""
    openvino = require_openvino()
    with _MAKING:
        if not _made:
            _made.append(openvino.Core())
            _made_in.append(os.getpid())
        return _made[0]


def is_inherited() -> bool:
    """Tell whether a parent process made the core; a graph on several threads would then wait for the parent's."""
    the_core()
    return _made_in[0] != os.getpid()


@cache
def has_bfloat16() -> bool:
    """Ask OpenVINO for the processor's bfloat16 support; `MissingDependencyError` without OpenVINO."""
    core = the_core()
    with as_backend_error("openvino could not be asked what the processor can"):
        return "BF16" in core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")
