"""Construction of a network from its config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gliclass_rerank.model.biencoder import BiEncoder, FusedBiEncoder
from gliclass_rerank.model.config import Architecture, ModelConfig
from gliclass_rerank.model.gliclass import GLiClass
from gliclass_rerank.model.head import ScoringHead

_ARCHITECTURES: Final[Mapping[Architecture, type[ScoringHead]]] = {
    "uni-encoder": GLiClass,
    "bi-encoder": BiEncoder,
    "bi-encoder-fused": FusedBiEncoder,
}


def build_model(config: ModelConfig) -> ScoringHead:
    """Build a network on the CPU, in float32 and evaluation mode, with uninitialised weights."""
    return _ARCHITECTURES[config.architecture_type](config).eval()
