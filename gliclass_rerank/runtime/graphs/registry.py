"""Registry of the backbones whose layers can be written as graphs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from torch import nn

from gliclass_rerank.errors import listed
from gliclass_rerank.runtime.graphs.bert import BertLayers
from gliclass_rerank.runtime.graphs.deberta import DebertaLayers
from gliclass_rerank.runtime.graphs.layers import LayerWriter
from gliclass_rerank.runtime.graphs.modernbert import ModernBertLayers

_WRITERS: Final[Mapping[str, type[LayerWriter]]] = {
    "bert": BertLayers,
    "deberta-v2": DebertaLayers,
    "modernbert": ModernBertLayers,
}


def unsupported_backbone(encoder_config: Mapping[str, Any]) -> str | None:  # Any: JSON
    """Reason why a backbone's layers cannot be written as a graph, in one sentence; None if they can.

    `encoder_config` is the backbone's config, with `model_type`.
    """
    model_type = encoder_config["model_type"]
    if model_type not in _WRITERS:
        return f"only backbones of the types {listed(_WRITERS)} can be exported so far, got {model_type!r}"
    return _WRITERS[model_type].unsupported(encoder_config)


def layer_writer(backbone: nn.Module) -> type[LayerWriter]:
    """Layer writer of a backbone that `unsupported_backbone` accepts."""
    config: Any = backbone.config  # Any: a config of transformers, untyped there
    return _WRITERS[config.model_type]
