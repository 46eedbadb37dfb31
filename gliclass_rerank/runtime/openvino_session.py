"""OpenVINO session that recompiles its graph after a failure."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gliclass_rerank.errors import OutOfMemoryError
from gliclass_rerank.runtime.after_fork import OpenedHere
from gliclass_rerank.runtime.foreign_errors import as_backend_error
from gliclass_rerank.runtime.openvino_core import use_openvino


class OpenVinoSession:
    """Compiled graph; thread-safe.

    The graph is recompiled after a failure: all requests of a compiled model share intermediate tensors, and a failed
    request leaves some in its own shapes. Later requests would fail, return an earlier shape, or crash the process.

    Args:
        path: ONNX file, for messages.
        compiled: Factory of the single-stream compiled model.

    Raises:
        BackendError: The graph cannot be loaded, or the parent process has used OpenVINO.
    """

    def __init__(self, path: Path, compiled: Callable[[], Any]) -> None:  # Any: openvino has no types
        self._path = path
        self._compiled = compiled
        # One stream runs one request at a time anyway; the lock also spans failure and recompilation.
        self._running = threading.Lock()
        self._opened = OpenedHere(self._open)

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        """Compute the graph's outputs."""
        use_openvino()  # before the lock, which a thread of the parent may hold
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
        use_openvino()
        with as_backend_error(f"openvino could not load `{self._path}`"):
            return self._compiled()


def _check_computed(request: Any) -> None:
    """Check that a fresh, finished request computed its outputs.

    OpenVINO may silently skip the work when memory is short; a reused request would then keep its last outputs.

    Args:
        request: Fresh request, finished.

    Raises:
        OutOfMemoryError: An output is empty.
    """
    if not all(tensor.size for tensor in request.output_tensors):
        raise OutOfMemoryError("openvino gave no outputs, which it does where memory does not suffice")
