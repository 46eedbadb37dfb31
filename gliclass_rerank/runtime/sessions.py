"""Runs ONNX graphs on a CPU runtime: arrays in, arrays out.

A session has its own threads; nothing is set for the whole process.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from gliclass_rerank._imports import require_onnxruntime, require_openvino
from gliclass_rerank.errors import ConfigError
from gliclass_rerank.runtime.after_fork import OpenedHere
from gliclass_rerank.runtime.foreign_errors import as_backend_error
from gliclass_rerank.runtime.openvino_cache import DEVICE, compiled_model
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
    """A loaded graph; safe to call from several threads."""

    def run(self, inputs: Mapping[str, Array]) -> list[FloatArray]:
        """Compute the graph's outputs, in its order.

        Args:
            inputs: Array by name of the input.

        Returns:
            One array an output; the caller's own.

        Raises:
            OutOfMemoryError: The memory did not suffice; smaller inputs may fit.
            BackendError: The runtime failed in another way, or cannot be used in a forked process.
        """
        ...


def open_session(path: Path, runtime: Runtime, precision: Precision, threads: int) -> Session:
    """Load a graph.

    Args:
        path: The ONNX file.
        runtime: What runs it.
        precision: What it computes in. Integers are in the file, and onnxruntime computes the rest in float32; openvino
            takes bfloat16 for the rest where the processor has it.
        threads: CPU threads, shared by all callers.

    Returns:
        The session.

    Raises:
        BackendError: The file cannot be loaded.
        ConfigError: The processor has no bfloat16.
        MissingDependencyError: The runtime is not installed.
    """
    if runtime == "onnx":
        return _OnnxSession(path, threads)
    native = has_bfloat16()
    if precision == "bfloat16" and not native:
        raise ConfigError("`dtype` is 'bfloat16', which this processor does not have")
    # Not left to openvino, which takes bfloat16 for float32 wherever the processor has it, and says nothing.
    hint = "bf16" if precision != "float32" and native else "f32"
    settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
    return OpenVinoSession(path, partial(compiled_model, path, hint, settings))


@cache
def has_bfloat16() -> bool:
    """ScoringRequest openvino what the processor can.

    Returns:
        Whether it computes in bfloat16.

    Raises:
        MissingDependencyError: openvino is not installed.
    """
    openvino = require_openvino()
    with as_backend_error("openvino could not be asked what the processor can"):
        return "BF16" in openvino.Core().get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")


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
        settings.log_severity_level = 4  # none below a fatal one; errors are raised
        # A thread that waits would otherwise keep its core busy, which others on the machine pay for.
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # Adding up and normalising as one takes onnxruntime six times as long as one after the other.
        settings.add_session_config_entry("optimization.disable_specified_optimizers", "SkipLayerNormFusion")
        return ort.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
