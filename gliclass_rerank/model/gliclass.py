"""GLiClass, the uni-encoder: one network reads the query and all its candidates (arXiv 2508.07662).

Under the `joint` plan they share one sequence and attend to each other. Under `shared_query` the query is encoded once
and every candidate attends to the query and to itself. The head is the same either way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from gliclass_rerank.calls.forks import between_groups
from gliclass_rerank.errors import ConfigError
from gliclass_rerank.model.batch import BlockBatch, TokenRows, WindowBatch
from gliclass_rerank.model.blocks.interface import LayerRunner
from gliclass_rerank.model.blocks.registry import block_runner
from gliclass_rerank.model.config import ModelConfig
from gliclass_rerank.model.encoder import build_backbone, run_backbone, token_embeddings
from gliclass_rerank.model.head import ScoringHead
from gliclass_rerank.model.interaction import TokenInteraction
from gliclass_rerank.model.layers import TextLstm
from gliclass_rerank.model.markers import block_candidates, block_tokens_read, window_candidates
from gliclass_rerank.model.segments import NUM_SEGMENTS, candidate_segments, query_segments, window_segments
from gliclass_rerank.model.squeeze import LayerwiseAttention


class GLiClass(ScoringHead):
    """The uni-encoder; weights are uninitialised until a checkpoint is loaded."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        width = config.shape.width
        self.encoder_model = build_backbone(config.encoder_config, vocab_size=config.vocab_size)
        self.lstm = TextLstm(width) if config.use_lstm else None
        self.layer_wise_attention = LayerwiseAttention(config.squeeze_inputs, width) if config.squeeze_layers else None
        self.segment_embeddings = nn.Embedding(NUM_SEGMENTS, width) if config.use_segment_embeddings else None
        shape = config.shape
        if config.candidate_position_start:
            _check_positions_start(shape.model_type, self.encoder_model)
        self.query_key_bias = (
            nn.Parameter(torch.zeros(shape.num_layers, shape.num_heads)) if config.query_key_bias else None
        )
        self.token_interaction = TokenInteraction(width) if config.token_interaction else None

    @property
    def encoders(self) -> tuple[nn.Module, ...]:
        """The backbone, with the segment vectors that are added to its input."""
        return (
            (self.encoder_model,) if self.segment_embeddings is None else (self.encoder_model, self.segment_embeddings)
        )

    def forward(self, batch: WindowBatch | BlockBatch, runner: LayerRunner | None = None) -> Tensor:
        """Score a batch under the plan its type stands for.

        Args:
            batch: Windows (`joint`) or a query with its candidates (`shared_query`).
            runner: Runs the backbone's layers; None for torch.

        Returns:
            FloatTensor [num_windows, max_passages] for windows; [num_candidates] for blocks, in group order.
        """
        if isinstance(batch, WindowBatch):
            return self._forward_windows(batch, runner)
        return self._forward_blocks(batch, runner)

    def _forward_windows(self, batch: WindowBatch, runner: LayerRunner | None) -> Tensor:
        tokens = batch.tokens
        encode = partial(run_backbone, self.encoder_model) if runner is None else runner.encode_windows
        layers = encode(
            tokens,
            embeddings=self._embeddings(
                tokens.ids, lambda ids: window_segments(ids, batch.text_start, self.config.example_token_index)
            ),
            all_layers=self.config.reads_all_layers,
        )
        states = self._chosen(layers, tokens.mask)
        candidates = window_candidates(
            self.config, states, tokens.mask, batch.markers, batch.marker_mask, batch.text_start
        )
        text, text_mask, pool_mask = states, tokens.mask, tokens.mask
        if self.config.extract_text_features:
            text, text_mask = _shift_to_text(states, tokens.mask, batch.text_start)
        if self.lstm is not None:
            text, pool_mask = self.lstm(text, text_mask), text_mask
        return self.score(
            self.text_vector(self.pool(text, pool_mask)),
            self.candidate_vectors(candidates),
            batch.marker_mask,
            text_mask,
        )

    def _forward_blocks(self, batch: BlockBatch, layer_runner: LayerRunner | None) -> Tensor:
        config, query = self.config, batch.query
        runner = layer_runner or block_runner(config.shape.model_type, self.encoder_model)
        memory = runner.encode_query(
            query.ids,
            start=config.query_attention_start,
            embeddings=self._embeddings(query.ids, lambda ids: query_segments(ids, config.example_token_index)),
            all_layers=config.reads_all_layers,
        )
        query_states = text = self._chosen(memory.layers, query.mask)
        if self.lstm is not None:
            text = self.lstm(text, query.mask)
        text = self.text_vector(self.pool(text, query.mask))
        logits = []
        for number, group in enumerate(batch.groups):
            between_groups()
            known = batch.known.get(number)
            layers = runner.encode_candidates(
                group.ids,
                group.mask if group.is_padded else None,
                memory,
                key_bias=self.query_key_bias,
                embeddings=self._embeddings(group.ids, candidate_segments) if known is None else None,
                start=config.candidate_position_start,
                all_layers=config.reads_all_layers,
                read_tokens=block_tokens_read(config),
                known=known,
            )
            states = self._chosen(layers, group.mask)
            scored = self._score_alone(text, query, block_candidates(config, states, group.mask))
            if self.token_interaction is not None:
                scored = scored + self.token_interaction(query_states[0], states, group.mask)
            logits.append(scored)
        return torch.cat(logits)

    def candidate_states(self, tokens: TokenRows, layer: int) -> Tensor:
        """What `LayerStates` holds of candidates.

        Args:
            tokens: One candidate a row.
            layer: The layer whose input is wanted, at most `query_attention_start`.

        Returns:
            FloatTensor [num_rows, seq_len, hidden], in the backbone's precision.
        """
        return block_runner(self.config.shape.model_type, self.encoder_model).encode_below(
            tokens.ids,
            tokens.mask if tokens.is_padded else None,
            layer=layer,
            embeddings=self._embeddings(tokens.ids, candidate_segments),
            start=self.config.candidate_position_start,
        )

    def _score_alone(self, text: Tensor, query: TokenRows, candidates: Tensor) -> Tensor:
        """Score each candidate as a set of one, so that no head lets companions in."""
        rows = candidates.shape[0]
        return self.score(
            text.expand(rows, *text.shape[1:]),
            self.candidate_vectors(candidates)[:, None],
            torch.ones(rows, 1, dtype=torch.bool, device=candidates.device),
            query.mask.expand(rows, -1),
        )[:, 0]

    def _embeddings(self, ids: Tensor, segments_of: Callable[[Tensor], Tensor]) -> Tensor | None:
        """Word embeddings with segment vectors added; None, and nothing computed, without segment vectors."""
        if self.segment_embeddings is None:
            return None
        embeddings: Tensor = token_embeddings(self.encoder_model, ids) + self.segment_embeddings(segments_of(ids))
        return embeddings

    def _chosen(self, layers: Sequence[Tensor], mask: Tensor) -> Tensor:
        """The states the head reads, in its own dtype."""
        dtype = self.logit_scale.dtype
        if self.config.encoder_layer_id != -1:
            return layers[self.config.encoder_layer_id].to(dtype)
        if self.layer_wise_attention is not None:
            fused: Tensor = self.layer_wise_attention([layer.to(dtype) for layer in layers], mask)
            return fused
        return layers[-1].to(dtype)


def _check_positions_start(model_type: str, backbone: nn.Module) -> None:
    if not block_runner(model_type, backbone).positions_are_absolute:
        raise ConfigError(
            f"`candidate_position_start` needs a backbone with absolute positions, {model_type!r} has relative ones"
        )


def _shift_to_text(states: Tensor, token_mask: Tensor, text_start: Tensor) -> tuple[Tensor, Tensor]:
    """Move the text to the front and fill up with zeros.

    Kept for checkpoint compatibility: the zero tail takes part in pooling, as upstream's does
    (docs/decisions/0002-upstream-quirks.md).

    Args:
        states: FloatTensor [num_windows, seq_len, hidden].
        token_mask: BoolTensor [num_windows, seq_len]. True marks a real token.
        text_start: LongTensor [num_windows]. Position of the first separator.

    Returns:
        FloatTensor [num_windows, seq_len, hidden] that starts at the separator, and BoolTensor [num_windows, seq_len],
        True on the text's real tokens.
    """
    positions = torch.arange(states.shape[1], device=states.device)
    text_mask = positions < (token_mask.sum(dim=1) - text_start)[:, None]
    source = (text_start[:, None] + positions).clamp(max=states.shape[1] - 1)
    shifted = states.gather(1, source[..., None].expand_as(states)) * text_mask[..., None]
    return shifted, text_mask
