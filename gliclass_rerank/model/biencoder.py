"""GLiClass bi-encoders, with a separate encoder for labels.

In `bi-encoder` text and labels meet only in the scorer. In `bi-encoder-fused` each label's vector replaces its marker's
word embedding, so labels and text attend to each other.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gliclass_rerank.calls.steps import between_groups
from gliclass_rerank.model.batch import BlockBatch, TokenRows, WindowBatch
from gliclass_rerank.model.config import ModelConfig
from gliclass_rerank.model.encoder import build_backbone
from gliclass_rerank.model.full_attention import run_backbone, token_embeddings
from gliclass_rerank.model.head import Projector, ScoringHead
from gliclass_rerank.model.pooling import marker_states


class _TwoEncoders(ScoringHead):
    """Base with a text and a label backbone; weights are uninitialised until a checkpoint is loaded."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        assert config.label_model_config is not None, "checked by ModelConfig"
        self.encoder_model = build_backbone(config.encoder_config)
        self.label_encoder = build_backbone(config.label_model_config)
        self.biencoder_projector = Projector(
            config.label_shape.width, config.hidden_size, config.shape.width, act=config.projector_hidden_act
        )

    @property
    def encoders(self) -> tuple[nn.Module, ...]:
        """Both backbones."""
        return (self.encoder_model, self.label_encoder)

    @property
    def passage_encoder(self) -> nn.Module:
        """Backbone of the labels."""
        return self.label_encoder

    def encode_candidates(self, rows: TokenRows) -> Tensor:
        """Encode labels, one per row, to FloatTensor [num_rows, hidden]."""
        between_groups()
        (states,) = run_backbone(self.label_encoder, rows)
        pooled = self.biencoder_projector(self.pool(self._float(states), rows.mask))
        return self.project(self.classes_projector, pooled)

    def _float(self, states: Tensor) -> Tensor:
        return states.to(self.logit_scale.dtype)


class BiEncoder(_TwoEncoders):
    """`bi-encoder`: labels and text meet in the scorer only."""

    def score_blocks(self, batch: BlockBatch) -> Tensor:
        """Score a text against its set of labels; FloatTensor [num_candidates], in group order."""
        (states,) = run_backbone(self.encoder_model, batch.query)
        text = self.project(self.text_projector, self.pool(self._float(states), batch.query.mask))
        candidates = torch.cat([self.encode_candidates(group) for group in batch.groups])[None]
        marker_mask = torch.ones(candidates.shape[:2], dtype=torch.bool, device=candidates.device)
        return self.score(text, candidates, marker_mask, batch.query.mask, always_scaled=True)[0]


class FusedBiEncoder(_TwoEncoders):
    """`bi-encoder-fused`: label vectors inside the text's sequence."""

    def score_windows(self, batch: WindowBatch) -> Tensor:
        """Score windows whose labels are encoded separately; FloatTensor [num_windows, max_passages]."""
        assert batch.candidates is not None, "a fused bi-encoder needs its candidates' own token ids"
        embeddings = token_embeddings(self.encoder_model, batch.tokens.ids)
        is_marker = torch.zeros(batch.tokens.ids.shape, dtype=torch.long, device=embeddings.device)
        is_marker.scatter_add_(1, batch.markers, batch.marker_mask.long())
        # Row by row, left to right: the order of candidates in the batch.
        vectors = self.encode_candidates(batch.candidates).to(embeddings.dtype)
        embeddings = embeddings.masked_scatter(is_marker.bool()[..., None], vectors)
        (states,) = run_backbone(self.encoder_model, batch.tokens, embeddings=embeddings)
        states = self._float(states)
        text = self.project(self.text_projector, self.pool(states, batch.tokens.mask))
        # Kept for checkpoint compatibility: these states are scored without a projector.
        candidates = marker_states(states, batch.markers, embed_marker=True)
        return self.score(text, candidates, batch.marker_mask, batch.tokens.mask, always_scaled=True)
