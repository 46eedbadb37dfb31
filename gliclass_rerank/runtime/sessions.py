"""ONNX sessions on a CPU runtime: arrays in, arrays out; no process-wide setting changes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from gliclass_rerank._imports import require_onnxruntime
from gliclass_rerank.errors import ConfigError
from gliclass_rerank.runtime.after_fork import OpenedHere
from gliclass_rerank.runtime.foreign_errors import as_backend_error
from gliclass_rerank.runtime.openvino_cache import compiled_model
from gliclass_rerank.runtime.openvino_core import has_bfloat16
from gliclass_rerank.runtime.openvino_session import OpenVinoSession

Runtime = Literal["onnx", "openvino"]
Precision = Literal["float32", "bfloat16", "int8"]
FloatArray = NDArray[np.float32]
Array = FloatArray | NDArray[np.int64]

PRECISIONS: Final[Mapping[Runtime, tuple[Precision, ...]]] = {
    "onnx": ("float32", "int8"),
    "openvino": ("float32", "bfloat16", "int8"),
}


class Session(Protocol):
    """Loaded graph; thread-safe."""

    def run(self, inputs: Mapping[str, Array]) -> list[FloatArray]:
        """Compute the graph's outputs.

        Args:
            inputs: Array by input name.

        Returns:
            One array per output, owned by the caller.

        Raises:
            OutOfMemoryError: Memory was exhausted; smaller inputs may fit.
            BackendError: Any other failure, or the process was forked.
        """
        ...


def open_session(path: Path, runtime: Runtime, precision: Precision, threads: int) -> Session:
    """Load a graph.

    Args:
        path: ONNX file.
        runtime: Graph runtime.
        precision: Precision of the layers. For int8, ONNX Runtime computes the remainder in float32, OpenVINO in
            bfloat16 if the processor supports it.
        threads: CPU threads, shared by all callers.

    Returns:
        The session.

    Raises:
        BackendError: The file cannot be loaded.
        ConfigError: The processor does not support bfloat16.
        MissingDependencyError: The runtime is not installed.
    """
    if runtime == "onnx":
        return _OnnxSession(path, threads)
    native = has_bfloat16()
    if precision == "bfloat16" and not native:
        raise ConfigError("`dtype` is 'bfloat16', which this processor does not have")
    # Set explicitly: OpenVINO silently replaces float32 by bfloat16 where the processor supports it.
    hint = "bf16" if precision != "float32" and native else "f32"
    return OpenVinoSession(path, partial(compiled_model, path, hint, threads))


class _OnnxSession:
    def __init__(self, path: Path, threads: int) -> None:
        self._opened = OpenedHere(partial(_onnx_session, path, threads))

    def run(self, inputs: Mapping[str, Array]) -> list[FloatArray]:
        session = self._opened.get()
        with as_backend_error("onnxruntime failed"):
            outputs: list[FloatArray] = session.run(None, dict(inputs))
        return outputs


def _onnx_session(path: Path, threads: int) -> Any:  # Any: onnxruntime has no types
    ort = require_onnxruntime(extra="onnx")
    with as_backend_error(f"onnxruntime could not load `{path}`"):
        settings = ort.SessionOptions()
        settings.intra_op_num_threads = threads
        settings.inter_op_num_threads = 1
        settings.log_severity_level = 4  # log nothing below a fatal error; errors are raised
        # Waiting threads would otherwise spin on their core.
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # The fused add-and-normalise is six times slower than the two operators.
        settings.add_session_config_entry("optimization.disable_specified_optimizers", "SkipLayerNormFusion")
        return ort.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
