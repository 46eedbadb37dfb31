"""Runtime resolution: backend, device, precision, batch budget and threads, decided in one place.

Only open settings are resolved; loading finds out whether an installed backend supports the model.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Final, Literal, NamedTuple, get_args

import torch

from gliclass_rerank.errors import ConfigError, listed, shown
from gliclass_rerank.model.config import ModelConfig
from gliclass_rerank.runtime.attention import Attention, batch_tokens_of, resolve_attention
from gliclass_rerank.runtime.graphs.registry import unsupported_backbone
from gliclass_rerank.runtime.openvino_core import can_use_openvino, has_bfloat16, has_bounded_memory
from gliclass_rerank.runtime.sessions import PRECISIONS

BackendName = Literal["auto", "torch", "onnx", "openvino"]
Backend = Literal["torch", "onnx", "openvino"]

_BACKENDS: Final = get_args(BackendName)
_INT8_PRODUCTS: Final = ("avx512_vnni", "avx_vnni", "amx_int8")
# Loss of nDCG@10 up to which `"auto"` takes int8.
_MOST_NDCG_LOSS: Final = 0.003
_OPENVINO: Final = "pip install 'gliclass-rerank[openvino]'"
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
        attention: Packed sequences in flash attention (`varlen`), or `padded` rows.
        attention_reason: Reason for this attention, in one sentence.
        quicker: Command that installs a quicker backend; None if there is none here, or the backend was asked for.
    """

    backend: Backend
    device: torch.device
    dtype: str
    batch_tokens: int
    threads: int | None
    reason: str
    attention: Attention
    attention_reason: str
    quicker: str | None = None

    @property
    def torch_dtype(self) -> torch.dtype:
        """Precision of the backbone in torch; float32 if the layers run elsewhere."""
        return _DTYPES[self.dtype] if self.backend == "torch" else torch.float32

    @property
    def computes_padding(self) -> bool:
        """Padding costs as much as tokens: not in exported layers, nor where few shapes fill batches up anyway."""
        return self.backend == "torch" and (self.device.type != "cpu" or self.dtype == "float32")


def resolve_runtime(
    config: ModelConfig,
    *,
    backend: BackendName | None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    batch_tokens: int | None = None,
    threads: int | None = None,
    has_cache: bool = False,
    int8_ndcg_loss: float | None = None,
) -> ResolvedRuntime:
    """Resolve the settings that the caller left open.

    Args:
        config: Config of the checkpoint.
        backend: `"auto"` or None takes the quickest one that keeps the order, of those installed: int8 if its loss
            was measured, on OpenVINO, else bfloat16 on OpenVINO, else int8 on ONNX Runtime, else torch, for a BERT in
            bfloat16. Each needs a processor that supports it. With a `dtype` it is the fastest backend that has it.
        device: Torch device; None for cuda, else mps, else cpu. Exported models run on the CPU.
        dtype: None for bfloat16 on a cuda device that computes it, float16 on one of capability 7, else float32.
        batch_tokens: Budget of a forward pass in tokens; None for 2,048 on the CPU, 65,536 elsewhere, and
            for packed sequences up to 262,144, depending on the GPU's memory.
        threads: CPU threads of all forward passes together; None for torch's default.
        has_cache: Passages may start from precomputed states.
        int8_ndcg_loss: Largest loss of nDCG@10 measured in int8; None if it was not measured.

    Returns:
        The resolved runtime.

    Raises:
        ConfigError: A backend, device or precision is unknown, unavailable or incompatible with the others, a budget or
            thread count is below 1, or threads were set for an accelerator.
    """
    if backend is not None and backend not in _BACKENDS:
        raise ConfigError(f"`backend` must be one of {listed(_BACKENDS)}, got {shown(backend)}")
    if backend is None or backend == "auto":
        keeps_order = int8_ndcg_loss is not None and int8_ndcg_loss <= _MOST_NDCG_LOSS
        chosen = _quickest(config, device, dtype, int8_keeps_order=keeps_order)
    else:
        chosen = _Choice(backend, dtype, "as asked for")
    name = chosen.backend
    place = resolve_device("cpu" if device is None and name != "torch" else device)
    if name != "torch" and place.type != "cpu":
        raise ConfigError(f"the backend {name!r} runs on the CPU only, got `device` {shown(device)}")
    _check_counts(batch_tokens, threads, place)
    precision = _torch_dtype(chosen.dtype, place) if name == "torch" else _exported_dtype(name, chosen.dtype)
    attention, why = resolve_attention(config, backend=name, device=place, dtype=precision, has_cache=has_cache)
    return ResolvedRuntime(
        backend=name,
        device=place,
        dtype=precision,
        batch_tokens=batch_tokens or batch_tokens_of(attention, config.shape.width, place),
        threads=threads,
        reason=chosen.reason,
        attention=attention,
        attention_reason=why,
        quicker=chosen.quicker,
    )


class _Choice(NamedTuple):
    backend: Backend
    dtype: str | torch.dtype | None
    reason: str
    quicker: str | None = None


def _quickest(
    config: ModelConfig, device: str | torch.device | None, dtype: str | torch.dtype | None, *, int8_keeps_order: bool
) -> _Choice:
    """Backend and precision for `"auto"`, and the reason."""
    if resolve_device(device).type != "cpu":
        return _Choice("torch", dtype, "exported models run on the CPU only")
    if reason := export_refusal(config):
        return _Choice("torch", dtype, reason)
    wanted = None if dtype is None else dtype_name(dtype)
    openvino = _installed("openvino") and can_use_openvino() and not has_bounded_memory()
    onnx = _installed("onnxruntime")
    takes_int8 = wanted is None and int8_keeps_order and has_native_int8()
    takes_bfloat16 = wanted in {None, "bfloat16"}
    quicker = (
        _OPENVINO if not _installed("openvino") and (takes_int8 or (takes_bfloat16 and has_native_bfloat16())) else None
    )
    # Other backbones write their attention out, for which torch would hold memory per sequence length.
    torch_bfloat16 = wanted is None and config.shape.model_type == "bert" and has_native_bfloat16()
    choices = (
        (wanted == "int8", _Choice("onnx" if onnx and not openvino else "openvino", dtype, "the quickest with int8")),
        (takes_int8 and openvino, _Choice("openvino", "int8", "the quickest, and it keeps the order")),
        (
            openvino and takes_bfloat16 and not takes_int8 and has_bfloat16(),
            _Choice("openvino", "bfloat16", "the quickest that was measured to keep the order"),
        ),
        (takes_int8 and onnx, _Choice("onnx", "int8", "the quickest of those installed", quicker)),
        (torch_bfloat16, _Choice("torch", "bfloat16", "the quickest of those installed", quicker)),
        (True, _Choice("torch", dtype, "nothing quicker was measured to keep the order", quicker)),
    )
    return next(choice for is_possible, choice in choices if is_possible)


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
    return has_onednn and _processor_has("amx_bf16", "avx512_bf16")


def has_native_int8() -> bool:
    """Test for native int8 products; False if unknown."""
    return _processor_has(*_INT8_PRODUCTS)


def adds_int8_in_pairs() -> bool:
    """Test whether int8 products are added in pairs of 16 bits, which large ones overflow: x86 without native ones."""
    return platform.machine().lower() in {"x86_64", "amd64"} and not _processor_has(*_INT8_PRODUCTS)


def _processor_has(*features: str) -> bool:
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return any(capabilities.get(name, False) for name in features)


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
        return _cuda_dtype(device) if device.type == "cuda" else "float32"
    name = dtype_name(dtype)
    if name == "int8":
        raise ConfigError("`dtype` 'int8' needs the `backend` 'onnx' or 'openvino'")
    if name not in _DTYPES:
        raise ConfigError(
            f"`dtype` must be one of {listed(_DTYPES)}, or `int8` on onnx and openvino, got {shown(dtype)}"
        )
    return name


def _cuda_dtype(device: torch.device) -> str:
    """Quickest precision of a cuda device's tensor cores; emulated bfloat16 is slower than float32."""
    if torch.version.hip is not None:
        return "bfloat16"
    major, _ = torch.cuda.get_device_capability(device)
    return "bfloat16" if major >= 8 else "float16" if major == 7 else "float32"


def _exported_dtype(backend: Literal["onnx", "openvino"], dtype: str | torch.dtype | None) -> str:
    name = "float32" if dtype is None else dtype_name(dtype)
    if name not in PRECISIONS[backend]:
        raise ConfigError(
            f"`dtype` must be one of {listed(PRECISIONS[backend])} for the `backend` {backend!r}, got {shown(dtype)}"
        )
    return name


def _installed(runtime: str) -> bool:
    return all(find_spec(package) is not None for package in (runtime, "onnx"))  # onnx writes the exports
