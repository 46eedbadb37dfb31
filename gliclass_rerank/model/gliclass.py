"""GLiClass uni-encoder: one network reads the query and all its candidates (arXiv 2508.07662).

Under `joint` they share one sequence and attend to each other. Under `shared_query` the query is encoded once and each
candidate attends to the query and itself. The head is the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial

import torch
from torch import Tensor, nn

from gliclass_rerank.calls.steps import between_groups
from gliclass_rerank.errors import ConfigError
from gliclass_rerank.model.backbones.interface import LayerRunner
from gliclass_rerank.model.backbones.registry import block_runner
from gliclass_rerank.model.backbones.runner import BlockRunner
from gliclass_rerank.model.batch import BlockBatch, TokenRows, WindowBatch
from gliclass_rerank.model.config import ModelConfig
from gliclass_rerank.model.encoder import build_backbone
from gliclass_rerank.model.full_attention import run_backbone, token_embeddings
from gliclass_rerank.model.head import ScoringHead
from gliclass_rerank.model.pooling import block_candidates, block_tokens_read, window_candidates
from gliclass_rerank.model.scorers import TokenInteraction
from gliclass_rerank.model.segments import CANDIDATES, NUM_SEGMENTS, window_segments
from gliclass_rerank.model.squeeze import LayerwiseAttention
from gliclass_rerank.model.text_lstm import TextLstm


class GLiClass(ScoringHead):
    """Uni-encoder; weights are uninitialised until a checkpoint is loaded."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        shape = config.shape
        width = shape.width
        self.encoder_model = build_backbone(config.encoder_config, vocab_size=config.vocab_size)
        self.lstm = TextLstm(width) if config.use_lstm else None
        self.layer_wise_attention = LayerwiseAttention(config.squeeze_inputs, width) if config.squeeze_layers else None
        self.segment_embeddings = nn.Embedding(NUM_SEGMENTS, width) if config.use_segment_embeddings else None
        if config.candidate_position_start:
            _check_positions_start(shape.model_type, self.encoder_model)
        self.query_key_bias = (
            nn.Parameter(torch.zeros(shape.num_layers, shape.num_heads)) if config.query_key_bias else None
        )
        self.token_interaction = TokenInteraction(width) if config.token_interaction else None
        self._all_layers, self._read_tokens = config.reads_all_layers, block_tokens_read(config)

    @property
    def encoders(self) -> tuple[nn.Module, ...]:
        """Backbone and segment vectors."""
        return (
            (self.encoder_model,) if self.segment_embeddings is None else (self.encoder_model, self.segment_embeddings)
        )

    @property
    def passage_encoder(self) -> nn.Module:
        """The only backbone."""
        return self.encoder_model

    @cached_property
    def blocks(self) -> BlockRunner:
        """Torch block runner of the backbone."""
        return block_runner(self.config.shape.model_type, self.encoder_model)

    def score_windows(self, batch: WindowBatch, runner: LayerRunner | None = None) -> Tensor:
        """Score windows under the `joint` plan.

        Args:
            batch: Collated windows.
            runner: Layer runner; None for torch.

        Returns:
            FloatTensor [num_windows, max_passages].
        """
        tokens, config = batch.tokens, self.config
        encode = partial(run_backbone, self.encoder_model) if runner is None else runner.encode_windows
        embeddings = None
        if self.segment_embeddings is not None:
            segments = window_segments(tokens.ids, batch.text_start, config.example_token_index)
            embeddings = token_embeddings(self.encoder_model, tokens.ids) + self.segment_embeddings(segments)
        layers = encode(tokens, embeddings=embeddings, all_layers=self._all_layers)
        states = self._fused(layers, tokens.mask) if self._all_layers else layers[0].to(self.logit_scale.dtype)
        return self.score_states(states, tokens.mask, batch.markers, batch.marker_mask, batch.text_start)

    def score_states(
        self, states: Tensor, token_mask: Tensor, markers: Tensor, marker_mask: Tensor, text_start: Tensor
    ) -> Tensor:
        """Score windows from their last states.

        Args:
            states: FloatTensor [num_windows, seq_len, hidden].
            token_mask: BoolTensor [num_windows, seq_len]. True on tokens.
            markers: LongTensor [num_windows, max_passages]. Marker positions; 0 in empty slots.
            marker_mask: BoolTensor [num_windows, max_passages]. True on filled slots.
            text_start: LongTensor [num_windows]. Position of the first separator.

        Returns:
            FloatTensor [num_windows, max_passages].
        """
        candidates = window_candidates(self.config, states, token_mask, markers, marker_mask, text_start)
        text, text_mask, pool_mask = states, token_mask, token_mask
        if self.config.extract_text_features:
            text, text_mask = _shift_to_text(states, token_mask, text_start)
        if self.lstm is not None:
            text, pool_mask = self.lstm(text, text_mask), text_mask
        return self.score(
            self.project(self.text_projector, self.pool(text, pool_mask)),
            self.project(self.classes_projector, candidates),
            marker_mask,
            text_mask,
        )

    def score_blocks(self, batch: BlockBatch, runner: LayerRunner | None = None) -> Tensor:
        """Score a query's candidates under the `shared_query` plan.

        Args:
            batch: Collated query and candidates.
            runner: Layer runner; None for torch.

        Returns:
            FloatTensor [num_candidates], group by group.
        """
        config, query, runner = self.config, batch.query, runner or self.blocks
        # Segment vectors added to word embeddings.
        added = (None,) * NUM_SEGMENTS if self.segment_embeddings is None else self.segment_embeddings.weight
        memory = runner.encode_query(
            query.ids,
            start=config.query_attention_start,
            segment=added[batch.query_segment],
            all_layers=self._all_layers,
        )
        dtype = self.logit_scale.dtype
        states = self._fused(memory.layers, query.mask) if self._all_layers else memory.layers[0].to(dtype)
        text = states if self.lstm is None else self.lstm(states, query.mask)
        text = self.project(self.text_projector, self.pool(text, query.mask))
        encode = partial(
            runner.encode_candidates,
            memory=memory,
            key_bias=self.query_key_bias,
            segment=added[CANDIDATES],
            start=config.candidate_position_start,
            all_layers=self._all_layers,
            read_tokens=self._read_tokens,
        )
        logits: list[Tensor] = []
        for number, group in enumerate(batch.groups):
            between_groups(len(logits[-1]) if logits else 0)
            layers = encode(group, cached=batch.cached.get(number))
            candidates = self._fused(layers, group.mask) if self._all_layers else layers[0].to(dtype)
            logits.append(self._score_group(text, states, query.mask, candidates, group.mask))
        return torch.cat(logits)

    def candidate_states(self, tokens: TokenRows, layer: int) -> Tensor:
        """Compute query-independent candidate states at a layer's input.

        Args:
            tokens: One candidate per row.
            layer: Layer number, at most `query_attention_start`.

        Returns:
            FloatTensor [num_rows, seq_len, hidden], in the backbone's precision.
        """
        return self.blocks.encode_below(
            tokens,
            layer=layer,
            segment=None if self.segment_embeddings is None else self.segment_embeddings.weight[CANDIDATES],
            start=self.config.candidate_position_start,
        )

    def _score_group(
        self, text: Tensor, query: Tensor, query_mask: Tensor, candidates: Tensor, token_mask: Tensor
    ) -> Tensor:
        """Score each candidate as a set of one, so that no head depends on companions."""
        rows = candidates.shape[0]
        pooled = block_candidates(self.config, candidates, token_mask)
        logits = self.score(
            text.expand(rows, *text.shape[1:]),
            self.project(self.classes_projector, pooled)[:, None],
            torch.ones(rows, 1, dtype=torch.bool, device=candidates.device),
            query_mask.expand(rows, -1),
        )[:, 0]
        if self.token_interaction is not None:
            logits = logits + self.token_interaction(query[0], candidates, token_mask)
        return logits

    def _fused(self, layers: Sequence[Tensor], mask: Tensor) -> Tensor:
        """States read by a head that needs all layers."""
        if self.layer_wise_attention is None or self.config.encoder_layer_id != -1:
            return layers[self.config.encoder_layer_id].to(self.logit_scale.dtype)
        fused: Tensor = self.layer_wise_attention([layer.to(self.logit_scale.dtype) for layer in layers], mask)
        return fused


def _check_positions_start(model_type: str, backbone: nn.Module) -> None:
    if not block_runner(model_type, backbone).positions_are_absolute:
        raise ConfigError(
            f"`candidate_position_start` needs a backbone with absolute positions, {model_type!r} has relative ones"
        )


def _shift_to_text(states: Tensor, token_mask: Tensor, text_start: Tensor) -> tuple[Tensor, Tensor]:
    """Move the text to the front and fill up with zeros.

    Kept for checkpoint compatibility: the zero tail takes part in pooling, as in upstream
    (docs/decisions/0002-upstream-quirks.md).

    Args:
        states: FloatTensor [num_windows, seq_len, hidden].
        token_mask: BoolTensor [num_windows, seq_len]. True on tokens.
        text_start: LongTensor [num_windows]. Position of the first separator.

    Returns:
        States from the separator on, FloatTensor [num_windows, seq_len, hidden], and BoolTensor [num_windows, seq_len],
        True on the text's tokens.
    """
    positions = torch.arange(states.shape[1], device=states.device)
    text_mask = positions < (token_mask.sum(dim=1) - text_start)[:, None]
    source = (text_start[:, None] + positions).clamp(max=states.shape[1] - 1)
    shifted = states.gather(1, source[..., None].expand_as(states)) * text_mask[..., None]
    return shifted, text_mask
