"""Choice of attention: packed sequences where a kernel for them exists, else padded rows, and the reason."""

from __future__ import annotations

from functools import cache
from typing import Final, Literal

import torch

from gliclass_rerank.errors import cause, listed, shown
from gliclass_rerank.model.backbones.bert import ACTIVATIONS, BertConfig
from gliclass_rerank.model.backbones.packed_attention import (
    PackedAttention,
    VarlenAttention,
    flash_kernel,
    has_flash_kernel,
)
from gliclass_rerank.model.backbones.packed_reference import dense_attention, plain_kernel
from gliclass_rerank.model.config import ModelConfig
from gliclass_rerank.settings import default_batch_tokens

Attention = Literal["padded", "varlen", "dense"]
"""`padded` rows; packed sequences in flash attention (`varlen`), or in a plain softmax (`dense`), which tests use."""

_BACKBONES: Final = ("bert", "modernbert")
# Of flash attention's heads.
_HEAD_STEP, _WIDEST_HEAD = 8, 256
# For each element of a token's state, all intermediate results of a layer in half precision, and the head's.
_BYTES_OF_TOKEN: Final = 64
# Of half precision, for values of order 1.
_TOLERANCE: Final = 0.05


def resolve_attention(
    config: ModelConfig, *, backend: str, device: torch.device, dtype: str, has_cache: bool = False
) -> tuple[Attention, str]:
    """Choose the attention of a network.

    Args:
        config: Config of the checkpoint.
        backend: Runtime of the layers.
        device: Device of the model.
        dtype: Precision of the layers.
        has_cache: Passages may start from precomputed states.

    Returns:
        The choice, and its reason in one sentence.
    """
    reason = (
        _machine_reason(backend, device, dtype)
        or unpackable_reason(config)
        or ("a passage cache holds the states of padded rows" if has_cache else None)
    )
    if reason is None:
        reason = flash_failure(device, dtype)
    if reason is not None:
        return "padded", reason
    return "varlen", "flash attention runs sequences of different lengths without padding"


@cache
def flash_failure(device: torch.device, dtype: str) -> str | None:
    """Try flash attention on a few tokens, against plain attention on the CPU.

    Args:
        device: A cuda device.
        dtype: `float16` or `bfloat16`.

    Returns:
        Reason not to use it, in one sentence; None if it is right.
    """
    generator = torch.Generator().manual_seed(0)
    bounds, key_bounds = (torch.tensor(each, dtype=torch.int32) for each in ([0, 3, 20], [0, 9, 40]))
    query, key, value = (
        torch.randn(count, 2, 32, generator=generator).to(getattr(torch, dtype)) for count in (20, 40, 40)
    )
    try:
        for reach in (None, 4):
            tokens = query.to(device), key.to(device), value.to(device)
            found = flash_kernel()(*tokens, bounds.to(device), key_bounds.to(device), 17, 31, reach)
            expected = plain_kernel(query.float(), key.float(), value.float(), bounds, key_bounds, 17, 31, reach)
            for one, other in zip(found, expected, strict=True):
                if one.shape != other.shape or not torch.allclose(one.float().cpu(), other, atol=_TOLERANCE):
                    return "flash attention differs from plain attention on this device"
    except Exception as error:  # noqa: BLE001 - padded rows run whatever a driver or an old build raises
        return f"flash attention failed on this device: {cause(error)}"
    return None


def batch_tokens_of(attention: Attention, width: int, device: torch.device) -> int:
    """Default tokens per forward pass of a network with states of a width; a quarter of a GPU's memory bounds it."""
    if attention == "padded":
        return default_batch_tokens(on_cpu=device.type == "cpu")
    most = default_batch_tokens(on_cpu=False, is_packed=True)
    if device.type != "cuda":
        return most
    memory = torch.cuda.get_device_properties(device).total_memory
    return max(1, min(most, memory // 4 // (_BYTES_OF_TOKEN * width)))


def packed_attention(choice: Attention) -> PackedAttention:
    """Attention of a choice other than `padded`."""
    return dense_attention if choice == "dense" else VarlenAttention(flash_kernel())


def unpackable_reason(config: ModelConfig) -> str | None:
    """Reason why a network runs on padded rows everywhere, in one sentence; None if it can run packed."""
    shape = config.shape
    model_type, head = shape.model_type, shape.width // shape.num_heads
    return _first(
        (config.is_bi_encoder, f"only uni-encoders run packed, got {shown(config.architecture_type)}"),
        (config.reads_all_layers, "the head reads all layers, which a packed pass does not keep"),
        (model_type == "deberta-v2", "DeBERTa adds distances to its attention scores, which flash attention does not"),
        (model_type not in _BACKBONES, f"only backbones of {listed(_BACKBONES)} run packed, got {shown(model_type)}"),
        (
            model_type == "bert" and BertConfig.of(config.encoder_config) is None,
            f"only BERTs with an activation of {listed(ACTIVATIONS)} run packed",
        ),
        (
            config.query_key_bias and shape.global_share < 1,
            "flash attention has no bias on the query's keys in layers with a window",
        ),
        (
            head % _HEAD_STEP > 0 or head > _WIDEST_HEAD,
            f"flash attention needs heads of a multiple of {_HEAD_STEP} up to {_WIDEST_HEAD}, got {head}",
        ),
    )


def _machine_reason(backend: str, device: torch.device, dtype: str) -> str | None:
    if backend != "torch":
        return f"the backend {backend!r} runs padded rows"
    if device.type != "cuda" or torch.version.hip is not None:
        return "flash attention needs an NVIDIA card"
    major, minor = torch.cuda.get_device_capability(device)
    return _first(
        (major < 8, f"flash attention needs compute capability 8.0, and this card has {major}.{minor}"),
        (dtype == "float32", "flash attention has no float32"),
        (
            not has_flash_kernel(),
            f"flash attention for sequences of different lengths needs torch 2.11, got {torch.__version__}",
        ),
    )


def _first(*reasons: tuple[bool, str]) -> str | None:
    return next((reason for holds, reason in reasons if holds), None)
