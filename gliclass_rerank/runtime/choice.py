"""Which backend a checkpoint gets, by what was asked for and what is installed here."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Final, Literal, get_args

import torch

from gliclass_rerank.errors import ConfigError, listed, shown
from gliclass_rerank.model.config import ModelConfig
from gliclass_rerank.runtime.graphs.registry import unsupported_backbone
from gliclass_rerank.runtime.placement import dtype_name, has_native_bfloat16, resolve_device
from gliclass_rerank.runtime.sessions import has_bfloat16

BackendName = Literal["auto", "torch", "onnx", "openvino"]
_BACKENDS: Final = get_args(BackendName)


@dataclass(frozen=True)
class Choice:
    """What runs the transformer layers.

    Attributes:
        backend: `torch`, `onnx` or `openvino`.
        dtype: The precision, for torch as it was asked for (None leaves it to the device).
    """

    backend: Literal["torch", "onnx", "openvino"]
    dtype: str | torch.dtype | None = None


def choose_backend(
    config: ModelConfig,
    backend: BackendName | None = None,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
) -> Choice:
    """Fill in what the caller left open; whether what was asked for can be had is not looked at.

    Args:
        config: The checkpoint's.
        backend: What was asked for; None is torch. `"auto"` is the quickest on this machine of those that were measured
            to keep the order (docs/speed.md): bfloat16 where the processor has it, in openvino, if it is installed and
            can run the checkpoint, or in torch for a BERT; else torch. With a `dtype` it is the quickest one that has
            it.
        device: As for `resolve_placement`; exported models run on the CPU.
        dtype: The precision that was asked for, if any.

    Returns:
        The choice.

    Raises:
        ConfigError: There is no such backend or device.
    """
    if backend is not None and backend not in _BACKENDS:
        raise ConfigError(f"`backend` must be one of {listed(_BACKENDS)}, got {shown(backend)}")
    if backend is None:
        return Choice("torch", dtype)
    if backend != "auto":
        return Choice(backend, dtype)
    if unsupported_reason(config) or resolve_device(device).type != "cpu":
        return Choice("torch", dtype)
    return _quickest(config, dtype)


def _quickest(config: ModelConfig, dtype: str | torch.dtype | None) -> Choice:
    """What `"auto"` is, on a CPU, for a checkpoint that can be exported."""
    wanted = None if dtype is None else dtype_name(dtype)
    if wanted == "int8":
        return Choice("onnx" if _installed("onnxruntime") and not _installed("openvino") else "openvino", dtype)
    if wanted in {None, "bfloat16"} and _installed("openvino") and has_bfloat16():
        return Choice("openvino", "bfloat16")
    # Other backbones write their attention out, for which torch would hold more memory with each new length.
    if wanted is None and config.shape.model_type == "bert" and has_native_bfloat16():
        return Choice("torch", "bfloat16")
    return Choice("torch", dtype)


def unsupported_reason(config: ModelConfig) -> str | None:
    """Why a checkpoint cannot be exported.

    Args:
        config: The checkpoint's.

    Returns:
        One sentence, or None if it can.
    """
    if config.is_bi_encoder:
        return f"only uni-encoders can be exported so far, got {shown(config.architecture_type)}"
    return unsupported_backbone(config.encoder_config)


def _installed(runtime: str) -> bool:
    return all(find_spec(package) is not None for package in (runtime, "onnx"))  # the second one writes exports
