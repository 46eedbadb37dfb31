"""Where, in which precision and on how many threads a model runs; resolved once, when it is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch

from gliclass_rerank.errors import ConfigError, listed, shown
from gliclass_rerank.runtime.engine import default_batch_tokens

_DTYPES: Final = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


@dataclass(frozen=True)
class Placement:
    """Device, precision, batch budget and CPU threads.

    Attributes:
        device: Where the model runs.
        dtype: Precision of the backbone; the head always runs in float32.
        batch_tokens: Tokens of one forward pass, padding included.
        threads: CPU threads of all forward passes together; None for torch's own number in each calling thread.
    """

    device: torch.device
    dtype: torch.dtype
    batch_tokens: int
    threads: int | None = None


def resolve_placement(
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    batch_tokens: int | None = None,
    threads: int | None = None,
) -> Placement:
    """Fill in what the caller left open.

    Args:
        device: A torch device; None takes cuda, else mps, else cpu.
        dtype: `float32`, `float16` or `bfloat16`; None takes bfloat16 on a cuda device that has it, else float32.
        batch_tokens: Tokens of one forward pass; None takes 2,048 on the CPU and 65,536 elsewhere.
        threads: CPU threads of all forward passes together; None leaves the number to torch.

    Returns:
        The placement.

    Raises:
        ConfigError: A device or precision that is unknown or not there, a budget or a number of threads below 1, or
            threads for an accelerator.
    """
    chosen = resolve_device(device)
    if batch_tokens is not None and batch_tokens < 1:
        raise ConfigError(f"`batch_tokens` must be at least 1, got {batch_tokens}")
    if batch_tokens is None:
        batch_tokens = default_batch_tokens(on_cpu=chosen.type == "cpu")
    if threads is not None:
        _check_threads(threads, chosen)
    return Placement(chosen, _dtype(dtype, chosen), batch_tokens, threads)


def resolve_device(device: str | torch.device | None = None) -> torch.device:
    """Where a model runs.

    Args:
        device: A torch device; None takes cuda, else mps, else cpu.

    Returns:
        The device.

    Raises:
        ConfigError: It is unknown or not there.
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
    """Whether torch multiplies in bfloat16 by instructions of the processor's own.

    Returns:
        False also where it is not known: on other processors than x86, and from an old torch.
    """
    has_onednn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not has_onednn or not hasattr(torch.cpu, "get_capabilities"):
        return False
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("amx_bf16", "avx512_bf16"))


def dtype_name(dtype: str | torch.dtype) -> str:
    """The name of a precision, such as `float32`, whether it is given as text or as torch's object."""
    return str(dtype).removeprefix("torch.")


def _check_threads(threads: int, device: torch.device) -> None:
    if threads < 1:
        raise ConfigError(f"`threads` must be at least 1, got {threads}")
    if device.type != "cpu":
        raise ConfigError(f"`threads` is for models on the CPU, got {threads} for the `device` {shown(device.type)}")


def _missing_accelerator(kind: str) -> str | None:
    if kind == "cuda" and not torch.cuda.is_available():
        return "CUDA device"
    if kind == "mps" and not torch.backends.mps.is_available():
        return "Apple GPU"
    if kind == "xpu" and not torch.xpu.is_available():
        return "Intel GPU"
    return None


def _dtype(dtype: str | torch.dtype | None, device: torch.device) -> torch.dtype:
    if dtype is None:
        has_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported()
        return torch.bfloat16 if has_bf16 else torch.float32
    chosen = _DTYPES.get(dtype_name(dtype))
    if chosen is None:
        raise ConfigError(f"`dtype` must be one of {listed(_DTYPES)}, got {shown(dtype)}")
    return chosen
