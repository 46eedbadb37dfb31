"""What all architectures share after their encoders: pooler, projectors, scorer, logit scale, calibrator."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional

from gliclass_rerank.model.batch import BlockBatch, WindowBatch
from gliclass_rerank.model.calibrator import Calibrator
from gliclass_rerank.model.config import ModelConfig
from gliclass_rerank.model.layers import Projector
from gliclass_rerank.model.pooling import POOLERS
from gliclass_rerank.model.scorers import build_scorer


class ScoringHead(nn.Module, ABC):
    """Base of the three architectures; parameter names are upstream's without the prefix `model.`.

    The head runs in float32 whatever the backbone's dtype: it costs nothing, and logits rounded to half precision
    would tie.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        width = config.shape.width
        self.text_projector = Projector(width, config.hidden_size, width, act=config.projector_hidden_act)
        self.classes_projector = Projector(width, config.hidden_size, width, act=config.projector_hidden_act)
        self.scorer = build_scorer(config)
        self.logit_scale = nn.Parameter(torch.tensor(1.0))
        self.calibrator = Calibrator(config) if config.use_calibrator else None

    @abstractmethod
    def forward(self, batch: WindowBatch | BlockBatch) -> Tensor:
        """Logits: FloatTensor [num_windows, max_passages] for windows, [num_candidates] for blocks (group order)."""

    @property
    @abstractmethod
    def encoders(self) -> tuple[nn.Module, ...]:
        """The backbones: the parts that may run in half precision."""

    def pool(self, states: Tensor, mask: Tensor) -> Tensor:
        """Pool states into one vector a row; see `POOLERS`."""
        return POOLERS[self.config.pooling_strategy](states, mask)

    def text_vector(self, pooled: Tensor) -> Tensor:
        """Project pooled text; FloatTensor [..., hidden] to the same shape."""
        return self._normalised(self.text_projector(pooled))

    def candidate_vectors(self, pooled: Tensor) -> Tensor:
        """Project pooled candidates; FloatTensor [..., hidden] to the same shape."""
        return self._normalised(self.classes_projector(pooled))

    def score(
        self,
        text: Tensor,
        candidates: Tensor,
        marker_mask: Tensor,
        text_mask: Tensor,
        *,
        always_scaled: bool = False,
    ) -> Tensor:
        """Scorer, scale and calibrator.

        Args:
            text: FloatTensor [num_windows, hidden], or [num_windows, seq_len, hidden] for `cross-attn`.
            candidates: FloatTensor [num_windows, max_passages, hidden].
            marker_mask: BoolTensor [num_windows, max_passages]. True on real slots.
            text_mask: BoolTensor [num_windows, seq_len]. True on the text's real tokens.
            always_scaled: Whether `logit_scale` applies without normalised features too (bi-encoders).

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

    def _normalised(self, vectors: Tensor) -> Tensor:
        return functional.normalize(vectors, dim=-1, eps=1e-8) if self.config.normalize_features else vectors
