"""Registry of the backbones that can run in blocks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from torch import nn

from gliclass_rerank.errors import listed
from gliclass_rerank.model.backbones.bert import BertBlocks
from gliclass_rerank.model.backbones.deberta import DebertaBlocks, has_convolution
from gliclass_rerank.model.backbones.modernbert import ModernBertBlocks
from gliclass_rerank.model.backbones.runner import BlockRunner

_RUNNERS: Final[Mapping[str, type[BlockRunner]]] = {
    "bert": BertBlocks,
    "deberta-v2": DebertaBlocks,
    "modernbert": ModernBertBlocks,
}


def unsupported_reason(encoder_config: Mapping[str, Any]) -> str | None:
    """Reason why a backbone cannot run the `shared_query` plan, in one sentence; None if it can.

    `encoder_config` is the backbone's config, with `model_type`.
    """
    model_type = encoder_config["model_type"]
    if model_type not in _RUNNERS:
        return f"the plan 'shared_query' needs a backbone of {listed(_RUNNERS)}, got {model_type!r}"
    if model_type == "deberta-v2" and has_convolution(encoder_config):
        return "the plan 'shared_query' does not support DeBERTa's convolution layer"
    return None


def block_runner(model_type: str, backbone: nn.Module) -> BlockRunner:
    """Block runner of a backbone that `unsupported_reason` accepts."""
    return _RUNNERS[model_type](backbone)
