"""Backbones from their configs.

The only module of `model/` that imports transformers, and lazily, because that takes longer than importing torch.
Backbones are unpatched stock encoders of `supported_backbones.py` (T5 without its decoder), except BERT
(`backbones/bert.py`).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gliclass_rerank._imports import TRANSFORMERS_LOCK
from gliclass_rerank.errors import ConfigError, cause, listed, shown
from gliclass_rerank.model.backbones.bert import ACTIVATIONS, Bert, BertConfig
from gliclass_rerank.model.sizes import ROBERTA_FAMILY, T5_FAMILY, check_sizes
from gliclass_rerank.model.supported_backbones import BACKBONES, known_backbone, known_settings

# Names of the activation setting in config classes.
_ACTIVATIONS: Final = ("activation", "conv_act", "dense_act_fn", "hidden_act", "hidden_activation")


@dataclass(frozen=True, kw_only=True)
class BackboneShape:
    """Sizes of a backbone, under common names.

    Attributes:
        model_type: transformers' name of the architecture.
        width: Size of a token's state.
        num_layers: Number of transformer layers.
        num_heads: Attention heads per layer.
        max_positions: Longest sequence; None if positions are relative.
        ffn_macs: Multiply-accumulates per token and feed-forward layer.
        global_share: Share of layers with full attention, in (0, 1].
        local_window: Window of local attention, in tokens.
        pad_id: Padding id of the embedding table.
        vocab_size: Rows of the embedding table, unless the checkpoint's config overrides them.
    """

    model_type: str
    width: int
    num_layers: int
    num_heads: int
    max_positions: int | None
    ffn_macs: int
    global_share: float
    local_window: int
    pad_id: int
    vocab_size: int


def _parse(values: Mapping[str, Any]) -> Any:  # Any: the config class depends on model_type
    backbone = known_backbone(values)
    if (config := BertConfig.of(values)) is None:
        with TRANSFORMERS_LOCK:
            import transformers

            # Copied because a config class may rewrite nested values; a saved dtype must not decide ours, and no value
            # may lead to another file.
            settings = copy.deepcopy(known_settings(values))
            del settings["model_type"]
            try:
                config = getattr(transformers, backbone.config)(**settings)
            except Exception as error:  # each config class has its own checks
                raise ConfigError(f"the backbone's config is not one of {backbone.config}: {cause(error)}") from error
        for name in _ACTIVATIONS:
            if (act := getattr(config, name, None)) is not None:
                check_activation(f"encoder_config.{name}", act)
    check_sizes(config)
    return config


def backbone_shape(values: Mapping[str, Any]) -> BackboneShape:
    """Read sizes from a backbone's config, with transformers' defaults.

    Args:
        values: A checkpoint's `encoder_config`, with `model_type`.

    Returns:
        The sizes.

    Raises:
        ConfigError: Unsupported backbone.
    """
    config = _parse(values)
    width, inner = (
        config.hidden_size,
        getattr(config, "intermediate_size", None) or getattr(config, "d_ff", None),
    )
    layer_types = getattr(config, "layer_types", None) or ["full_attention"]
    is_gated = config.model_type == "modernbert" or getattr(config, "is_gated_act", False)
    return BackboneShape(
        model_type=config.model_type,
        width=width,
        num_layers=config.num_hidden_layers,
        num_heads=config.num_attention_heads,
        max_positions=_max_positions(config),
        ffn_macs=(3 if is_gated else 2) * width * (inner or 4 * width),
        global_share=sum(kind == "full_attention" for kind in layer_types) / len(layer_types) or 1.0,
        local_window=int(getattr(config, "local_attention", 0) or 0),
        pad_id=config.pad_token_id or 0,
        vocab_size=config.vocab_size,
    )


def _max_positions(config: Any) -> int | None:  # Any: see _parse
    if config.model_type in T5_FAMILY:
        return None
    if config.model_type == "deberta-v2" and not config.position_biased_input:
        return None
    positions: int | None = getattr(config, "max_position_embeddings", None)
    if positions is not None and config.model_type in ROBERTA_FAMILY:
        return positions - int(config.pad_token_id) - 1
    return positions


def activation(name: str) -> nn.Module:
    """Build an activation by transformers' name, such as `gelu`; an unknown name is a `ConfigError`."""
    check_activation("projector_hidden_act", name)
    if name in ACTIVATIONS:
        return ACTIVATIONS[name]()
    with TRANSFORMERS_LOCK:
        from transformers.activations import ACT2FN

    module: nn.Module = ACT2FN[name]
    return module


def check_activation(key: str, name: object) -> None:
    """Check the name of an activation.

    Args:
        key: Name of the setting.
        name: Its value.

    Raises:
        ConfigError: Unknown activation.
    """
    if isinstance(name, str) and name in ACTIVATIONS:
        return
    with TRANSFORMERS_LOCK:
        from transformers.activations import ACT2FN

    if not isinstance(name, str) or name not in ACT2FN:
        raise ConfigError(f"`{key}` must be one of {listed(ACT2FN)}, got {shown(name)}")


def build_backbone(values: Mapping[str, Any], *, vocab_size: int | None = None) -> nn.Module:
    """Build a backbone in float32 and evaluation mode **with uninitialised weights**: every one must be loaded.

    Random initialisation would take most of the loading time (14 s for DeBERTa-v3-base on one core).

    Args:
        values: A checkpoint's `encoder_config`, with `model_type`.
        vocab_size: Rows of the embedding table; None for the config's.

    Returns:
        The backbone.

    Raises:
        ConfigError: Unsupported backbone.
    """
    config = _parse(values)
    if vocab_size is not None:
        config.vocab_size = vocab_size
    with _SkipInitialisation():
        backbone = Bert(config) if isinstance(config, BertConfig) else _stock_backbone(config)
    return backbone.eval()


def _stock_backbone(config: Any) -> nn.Module:  # Any: see _parse
    """Build the listed encoder, without `AutoModel`, which looks for code in the checkpoint."""
    with TRANSFORMERS_LOCK:
        import transformers

        stock: nn.Module = getattr(transformers, BACKBONES[config.model_type].model)(config)
    return stock.float()


class _SkipInitialisation(TorchFunctionMode):
    """Torch function mode that skips random initialisation in this thread."""

    _SKIPPED: Final = frozenset({"normal_", "uniform_", "trunc_normal_", "kaiming_uniform_", "xavier_uniform_"})

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # torch's protocol
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in self._SKIPPED:
            tensor = args[0] if args else kwargs["tensor"]
            if func is Tensor.normal_:
                # Called inside torch's truncated normal, which redraws until all values are within bounds.
                tensor.detach().zero_()
            return tensor
        return func(*args, **kwargs)
