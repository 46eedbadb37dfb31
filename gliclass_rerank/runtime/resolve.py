"""Runtime resolution: backend, device, precision, batch budget and threads, decided in one place.

Only open settings are resolved; loading finds out whether an installed backend supports the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Final, Literal, get_args

import torch

from gliclass_rerank.errors import ConfigError, listed, shown
from gliclass_rerank.model.config import ModelConfig
from gliclass_rerank.runtime.graphs.registry import unsupported_backbone
from gliclass_rerank.runtime.openvino_core import has_bfloat16
from gliclass_rerank.runtime.sessions import PRECISIONS
from gliclass_rerank.settings import default_batch_tokens

BackendName = Literal["auto", "torch", "onnx", "openvino"]
Backend = Literal["torch", "onnx", "openvino"]

_BACKENDS: Final = get_args(BackendName)
_DTYPES: Final = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class ResolvedRuntime:
    """Resolved runtime of a model.

    Attributes:
        backend: Runtime of the transformer layers.
        device: Device of the model.
        dtype: Precision of the layers: `float32`, `float16`, `bfloat16` or `int8`. The head always runs in float32.
        batch_tokens: Budget of a forward pass in tokens, padding included.
        threads: CPU threads of all forward passes together; None for torch's default in each calling thread.
        reason: Reason for this backend and precision, in one sentence.
    """

    backend: Backend
    device: torch.device
    dtype: str
    batch_tokens: int
    threads: int | None
    reason: str

    @property
    def torch_dtype(self) -> torch.dtype:
        """Precision of the backbone in torch; float32 if the layers run elsewhere."""
        return _DTYPES[self.dtype] if self.backend == "torch" else torch.float32


def resolve_runtime(
    config: ModelConfig,
    *,
    backend: BackendName | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    batch_tokens: int | None = None,
    threads: int | None = None,
) -> ResolvedRuntime:
    """Resolve the settings that the caller left open.

    Args:
        config: Config of the checkpoint.
        backend: None for torch. `"auto"` prefers bfloat16 on OpenVINO, then bfloat16 torch for a BERT, where the
            processor supports it; else torch. With a `dtype` it is the fastest backend that has it.
        device: Torch device; None for cuda, else mps, else cpu. Exported models run on the CPU.
        dtype: None for bfloat16 on a cuda device that supports it, else float32.
        batch_tokens: Budget of a forward pass in tokens; None for 2,048 on the CPU and 65,536 elsewhere.
        threads: CPU threads of all forward passes together; None for torch's default.

    Returns:
        The resolved runtime.

    Raises:
        ConfigError: A backend, device or precision is unknown, unavailable or incompatible with the others, a budget or
            thread count is below 1, or threads were set for an accelerator.
    """
    if backend is not None and backend not in _BACKENDS:
        raise ConfigError(f"`backend` must be one of {listed(_BACKENDS)}, got {shown(backend)}")
    name: Backend
    if backend == "auto":
        name, dtype, reason = _quickest(config, device, dtype)
    else:
        name, reason = backend or "torch", "the default" if backend is None else "as asked for"
    place = resolve_device("cpu" if device is None and name != "torch" else device)
    if name != "torch" and place.type != "cpu":
        raise ConfigError(f"the backend {name!r} runs on the CPU only, got `device` {shown(device)}")
    _check_counts(batch_tokens, threads, place)
    return ResolvedRuntime(
        backend=name,
        device=place,
        dtype=_torch_dtype(dtype, place) if name == "torch" else _exported_dtype(name, dtype),
        batch_tokens=batch_tokens or default_batch_tokens(on_cpu=place.type == "cpu"),
        threads=threads,
        reason=reason,
    )


def _quickest(
    config: ModelConfig, device: str | torch.device | None, dtype: str | torch.dtype | None
) -> tuple[Backend, str | torch.dtype | None, str]:
    """Backend and precision for `"auto"`, and the reason."""
    wanted = None if dtype is None else dtype_name(dtype)
    if resolve_device(device).type != "cpu":
        return "torch", dtype, "exported models run on the CPU only"
    if reason := export_refusal(config):
        return "torch", dtype, reason
    if wanted == "int8":
        only_onnx = _installed("onnxruntime") and not _installed("openvino")
        return "onnx" if only_onnx else "openvino", dtype, "the quickest one with int8"
    if wanted in {None, "bfloat16"} and _installed("openvino") and has_bfloat16():
        return "openvino", "bfloat16", "openvino is installed and the processor has bfloat16"
    # Other backbones write their attention out, for which torch would hold memory per sequence length.
    if wanted is None and config.shape.model_type == "bert" and has_native_bfloat16():
        return "torch", "bfloat16", "the processor has bfloat16; openvino, which is quicker, is not installed"
    return "torch", dtype, "the processor has no bfloat16, or another precision was asked for"


def export_refusal(config: ModelConfig) -> str | None:
    """Reason why a checkpoint cannot be exported, in one sentence; None if it can."""
    if config.is_bi_encoder:
        return f"only uni-encoders can be exported so far, got {shown(config.architecture_type)}"
    return unsupported_backbone(config.encoder_config)


def resolve_device(device: str | torch.device | None = None) -> torch.device:
    """Resolve a torch device.

    Args:
        device: None takes cuda, else mps, else cpu.

    Returns:
        The device.

    Raises:
        ConfigError: The device is unknown or unavailable.
    """
    if device is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError):
        raise ConfigError(f"`device` must be a torch device such as 'cpu' or 'cuda:0', got {shown(device)}") from None
    missing = _missing_accelerator(chosen.type)
    if missing is not None:
        raise ConfigError(f"`device` is {shown(device)}, but torch finds no {missing} here")
    return chosen


def has_native_bfloat16() -> bool:
    """Test for native bfloat16 products in torch; False if unknown (non-x86 processors, old torch)."""
    has_onednn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not has_onednn or not hasattr(torch.cpu, "get_capabilities"):
        return False
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("amx_bf16", "avx512_bf16"))


def dtype_name(dtype: str | torch.dtype) -> str:
    """Name of a precision given as text or as a torch dtype, such as `float32`."""
    return str(dtype).removeprefix("torch.")


def _check_counts(batch_tokens: int | None, threads: int | None, device: torch.device) -> None:
    if batch_tokens is not None and batch_tokens < 1:
        raise ConfigError(f"`batch_tokens` must be at least 1, got {batch_tokens}")
    if threads is not None and threads < 1:
        raise ConfigError(f"`threads` must be at least 1, got {threads}")
    if threads is not None and device.type != "cpu":
        raise ConfigError(f"`threads` is for models on the CPU, got {threads} for the `device` {shown(device.type)}")


def _missing_accelerator(kind: str) -> str | None:
    if kind == "cuda" and not torch.cuda.is_available():
        return "CUDA device"
    if kind == "mps" and not torch.backends.mps.is_available():
        return "Apple GPU"
    if kind == "xpu" and not torch.xpu.is_available():
        return "Intel GPU"
    return None


def _torch_dtype(dtype: str | torch.dtype | None, device: torch.device) -> str:
    if dtype is None:
        has_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported()
        return "bfloat16" if has_bf16 else "float32"
    name = dtype_name(dtype)
    if name == "int8":
        raise ConfigError("`dtype` 'int8' needs the `backend` 'onnx' or 'openvino'")
    if name not in _DTYPES:
        raise ConfigError(
            f"`dtype` must be one of {listed(_DTYPES)}, or `int8` on onnx and openvino, got {shown(dtype)}"
        )
    return name


def _exported_dtype(backend: Literal["onnx", "openvino"], dtype: str | torch.dtype | None) -> str:
    name = "float32" if dtype is None else dtype_name(dtype)
    if name not in PRECISIONS[backend]:
        raise ConfigError(
            f"`dtype` must be one of {listed(PRECISIONS[backend])} for the `backend` {backend!r}, got {shown(dtype)}"
        )
    return name


def _installed(runtime: str) -> bool:
    return all(find_spec(package) is not None for package in (runtime, "onnx"))  # onnx writes the exports
