"""Runs ONNX graphs on a CPU runtime: arrays in, arrays out.

A session has its own threads; nothing is set for the whole process.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from gliclass_rerank._optional import require
from gliclass_rerank.engine.compiled_models import DEVICE, compiled_model
from gliclass_rerank.errors import BackendError, ConfigError

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
            BackendError: The runtime failed.
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
    return _OnnxSession(path, threads) if runtime == "onnx" else _OpenVinoSession(path, precision, threads)


@cache
def has_bfloat16() -> bool:
    """Ask openvino what the processor can.

    Returns:
        Whether it computes in bfloat16.

    Raises:
        MissingDependencyError: openvino is not installed.
    """
    openvino = require("openvino", extra="openvino")
    return "BF16" in openvino.Core().get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")


class _OnnxSession:
    def __init__(self, path: Path, threads: int) -> None:
        ort = require("onnxruntime", extra="onnx")
        settings = ort.SessionOptions()
        settings.intra_op_num_threads = threads
        settings.inter_op_num_threads = 1
        settings.log_severity_level = 3  # errors; they are raised too
        # A thread that waits would otherwise keep its core busy, which others on the machine pay for.
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # Adding up and normalising as one takes onnxruntime six times as long as one after the other.
        settings.add_session_config_entry("optimization.disable_specified_optimizers", "SkipLayerNormFusion")
        try:
            self._session = ort.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions have no public base class
            raise BackendError(f"onnxruntime could not load `{path}`: {_first_line(error)}") from error

    def run(self, inputs: Mapping[str, Array]) -> list[FloatArray]:
        try:
            outputs: list[FloatArray] = self._session.run(None, dict(inputs))
        except Exception as error:  # as above
            raise BackendError(f"onnxruntime failed: {_first_line(error)}") from error
        return outputs


class _OpenVinoSession:
    def __init__(self, path: Path, precision: Precision, threads: int) -> None:
        native = has_bfloat16()
        if precision == "bfloat16" and not native:
            raise ConfigError("`dtype` is 'bfloat16', which this processor does not have")
        # Not left to openvino, which takes bfloat16 for float32 wherever the processor has it, and says nothing.
        hint = "bf16" if precision != "float32" and native else "f32"
        try:
            self._model = compiled_model(path, hint, {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1})
        except RuntimeError as error:
            raise BackendError(f"openvino could not load `{path}`: {_first_line(error)}") from error
        # A request serves one caller at a time; there are as many as there were callers at once.
        self._idle: SimpleQueue[Any] = SimpleQueue()  # Any: openvino has no types

    def run(self, inputs: Mapping[str, Array]) -> list[FloatArray]:
        try:
            request = self._idle.get_nowait()
        except Empty:
            request = self._model.create_infer_request()
        try:
            request.infer(dict(inputs), share_inputs=True)
            outputs = [np.array(tensor.data) for tensor in request.output_tensors]
        except RuntimeError as error:
            raise BackendError(f"openvino failed: {_first_line(error)}") from error
        self._idle.put(request)
        return outputs


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line), type(error).__name__)
