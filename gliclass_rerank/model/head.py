"""Scoring head shared by all architectures: pooler, projectors, scorer, logit scale and calibrator.

It runs in float32 for any backbone precision: it costs nothing, and logits in half precision would tie.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional

from gliclass_rerank.model.calibrator import Calibrator
from gliclass_rerank.model.config import ModelConfig
from gliclass_rerank.model.encoder import activation
from gliclass_rerank.model.pooling import POOLERS
from gliclass_rerank.model.scorers import build_scorer


class Projector(nn.Sequential):
    """Linear, activation, linear, with upstream's parameter names.

    Args:
        in_size: Width of the input.
        hidden_size: Width of the bottleneck.
        out_size: Width of the output.
        act: Name of the activation.
    """

    def __init__(self, in_size: int, hidden_size: int, out_size: int, *, act: str) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(in_size, hidden_size)
        self.act = activation(act)
        self.linear_2 = nn.Linear(hidden_size, out_size)


class ScoringHead(nn.Module, ABC):
    """Base of the three architectures; parameter names are upstream's without the prefix `model.`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        width = config.shape.width
        self.text_projector = Projector(width, config.hidden_size, width, act=config.projector_hidden_act)
        self.classes_projector = Projector(width, config.hidden_size, width, act=config.projector_hidden_act)
        self.scorer = build_scorer(config)
        self.logit_scale = nn.Parameter(torch.tensor(1.0))
        self.calibrator = Calibrator(config) if config.use_calibrator else None
        self.pool = POOLERS[config.pooling_strategy]

    @property
    @abstractmethod
    def encoders(self) -> tuple[nn.Module, ...]:
        """Backbones, the parts that may run in half precision."""

    @property
    @abstractmethod
    def passage_encoder(self) -> nn.Module:
        """Backbone that reads passages."""

    def project(self, projector: nn.Module, pooled: Tensor) -> Tensor:
        """Project pooled vectors, FloatTensor [..., hidden]."""
        vectors: Tensor = projector(pooled)
        return functional.normalize(vectors, dim=-1, eps=1e-8) if self.config.normalize_features else vectors

    def score(
        self,
        text: Tensor,
        candidates: Tensor,
        marker_mask: Tensor,
        text_mask: Tensor,
        *,
        always_scaled: bool = False,
    ) -> Tensor:
        """Apply scorer, scale and calibrator.

        Args:
            text: FloatTensor [num_windows, hidden], or [num_windows, seq_len, hidden] for `cross-attn`.
            candidates: FloatTensor [num_windows, max_passages, hidden].
            marker_mask: BoolTensor [num_windows, max_passages]. True on filled slots.
            text_mask: BoolTensor [num_windows, seq_len]. True on the text's tokens.
            always_scaled: Apply `logit_scale` even without normalised features (bi-encoders).

        Returns:
            FloatTensor [num_windows, max_passages].
        """
        logits: Tensor = self.scorer(text, candidates, marker_mask, text_mask)
        if always_scaled or self.config.normalize_features:
            # Kept for checkpoint compatibility: the raw parameter, never exponentiated.
            logits = logits * self.logit_scale
        if self.calibrator is not None:
            logits = self.calibrator(text, candidates, logits, marker_mask)
        return logits
