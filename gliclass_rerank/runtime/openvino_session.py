"""Runs a graph in openvino, and runs it anew where openvino would go on with what a failure left behind."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gliclass_rerank.errors import BackendError, OutOfMemoryError
from gliclass_rerank.runtime.after_fork import OpenedHere
from gliclass_rerank.runtime.foreign_errors import as_backend_error

# The process that has used openvino first, which none that is forked from it can.
_used_in: Final[list[int]] = []


class OpenVinoSession:
    """A compiled graph; safe to call from several threads.

    After a failure the graph is made again: a compiled model keeps one set of intermediate tensors for all its
    requests, and one that failed half way (for want of memory) leaves some of them in the shapes of its own inputs.
    Later requests, new ones as well, then fail, give outputs of an earlier one's shape, or crash the process.

    Args:
        path: The ONNX file, for messages.
        compiled: Makes the compiled model, of one stream.

    Raises:
        BackendError: The graph cannot be loaded, or the process was forked from one that has used openvino.
    """

    def __init__(self, path: Path, compiled: Callable[[], Any]) -> None:  # Any: openvino has no types
        self._path = path
        self._compiled = compiled
        # One stream runs one request at a time anyway; so none can run between a failure and what is done about it.
        self._running = threading.Lock()
        self._opened = OpenedHere(self._open)

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        """Compute the graph's outputs; see `Session.run`."""
        _check_process()  # before the lock, which may be that of a thread that the process does not have
        with self._running:
            model = self._opened.get()
            with as_backend_error("openvino failed"):
                try:
                    request = model.create_infer_request()
                    request.infer(dict(inputs), share_inputs=True)
                    _check_computed(request)
                except BaseException:
                    self._opened.drop()
                    raise
        with as_backend_error("openvino failed"):
            return [np.array(tensor.data) for tensor in request.output_tensors]

    def _open(self) -> Any:
        _check_process()
        with as_backend_error(f"openvino could not load `{self._path}`"):
            return self._compiled()


def _check_computed(request: Any) -> None:
    """Refuse the outputs of a request that did nothing and did not say so, as happens where memory does not suffice.

    A new request's outputs are empty; one that had been used before would still hold those of its last call, perhaps
    in the very shape that is expected.

    Args:
        request: A new one, which is done.

    Raises:
        OutOfMemoryError: There is nothing in one of the outputs.
    """
    if not all(tensor.size for tensor in request.output_tensors):
        raise OutOfMemoryError("openvino gave no outputs, which it does where memory does not suffice")


def _check_process() -> None:
    """Refuse where openvino would wait for threads of another process (docs/decisions/0025-runtimes.md).

    Raises:
        BackendError: This process was forked from one that has used openvino.
    """
    if not _used_in:
        _used_in.append(os.getpid())
    if _used_in[0] != os.getpid():
        raise BackendError(
            "openvino does not survive a fork: this process was forked from one that had loaded a model for the "
            "backend 'openvino'; load it after the fork only, or start processes with the method 'spawn'"
        )
