"""DeBERTa-v2/v3 in blocks: disentangled attention over restarted positions.

Scores are content-content plus content-position plus position-content (He et al., arXiv 2006.03654), with log-bucketed
distances. A candidate's distances to the query are those of "query, this candidate"; absolute positions, in checkpoints
that add them, restart at 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from gliclass_rerank.model.backbones.attention import masked
from gliclass_rerank.model.backbones.interface import QueryMemory
from gliclass_rerank.model.backbones.runner import BlockRunner, Sight, stock_embeddings


class DebertaBlocks(BlockRunner):
    """Block runner of `transformers.DebertaV2Model`."""

    # Absolute positions, if any, are part of the embedding output.
    positions_are_absolute = False
    scores_are_products = False  # distances add to them

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__(backbone)
        self.embed = stock_embeddings(backbone)

    @staticmethod
    def layers_of(backbone: Any) -> Any:  # Any: modules of a transformers model, untyped there
        """Transformer layers, in order."""
        return backbone.encoder.layer

    def project(self, layer: Any, states: Tensor, positions: Tensor, rows: int) -> tuple[Tensor, Tensor, Tensor]:  # noqa: ARG002 - positions enter in `attend`
        """Queries, keys and values of a layer."""
        attention = layer.attention.self
        query, key, value = (
            _heads(projection(part), attention.num_attention_heads)
            for projection, part in (
                (attention.query_proj, states[:, :rows]),
                (attention.key_proj, states),
                (attention.value_proj, states),
            )
        )
        return query, key, value

    def finish(self, layer: Any, states: Tensor, context: Tensor) -> Tensor:
        """Output projection, residual and feed-forward."""
        attended = layer.attention.output(context, states)
        finished: Tensor = layer.output(layer.intermediate(attended), attended)
        return finished

    @property
    def no_query(self) -> QueryMemory:  # not cached, because weights may change
        """Memory of rows without a query, with each layer's projected position embeddings.

        These are keys for c2p and queries for p2c, empty where unused.
        """
        encoder: Any = self.backbone.encoder  # Any: a module of transformers, untyped there
        nobody, relative = super().no_query, encoder.get_rel_embedding()
        if relative is None:
            return nobody
        return replace(nobody, tables=[_position_table(layer.attention.self, relative) for layer in self.layers])

    def attend(self, query: Tensor, key: Tensor, value: Tensor, sight: Sight) -> Tensor:
        """Disentangled attention."""
        attention = self.layers[0].attention.self
        scale = score_divisor(attention)
        scores = query @ (key.transpose(-1, -2) / scale)
        if attention.relative_attention:
            c2p, p2c = sight.table
            # One table index serves both terms, because buckets are symmetric: bucket(-x) = -bucket(x).
            index = table_index(attention, sight.query_positions[:, None] - sight.key_positions[None, :])
            if c2p.numel():
                scores = scores + _gather(query @ c2p.transpose(-1, -2), index) / scale
            if p2c.numel():
                scores = scores + _gather(key @ p2c.transpose(-1, -2), index.T).transpose(-1, -2) / scale
        return masked(scores, sight.mask).softmax(dim=-1) @ value


def has_convolution(encoder_config: Mapping[str, Any]) -> bool:  # Any: JSON
    """Test for a convolution beside the first layer, which block execution does not support."""
    return bool(encoder_config.get("conv_kernel_size", 0) > 0)


def score_divisor(attention: Any) -> float:  # Any: an untyped transformers module
    """Divisor of the attention scores."""
    terms = 1 + ("c2p" in attention.pos_att_type) + ("p2c" in attention.pos_att_type)
    return math.sqrt(attention.attention_head_size * terms)


def table_index(attention: Any, distance: Tensor) -> Tensor:  # Any: an untyped transformers module
    """Position table row of each distance, LongTensor of the same shape."""
    if attention.position_buckets > 0:
        distance = _log_buckets(distance, attention.position_buckets, attention.max_relative_positions)
    span: int = attention.pos_ebd_size
    return (distance + span).clamp(0, 2 * span - 1)


def _heads(states: Tensor, num_heads: int) -> Tensor:
    return states.view(*states.shape[:-1], num_heads, -1).transpose(1, 2)


def _position_table(attention: Any, relative: Tensor) -> tuple[Tensor, Tensor]:  # Any: an untyped transformers module
    """Position keys and queries, FloatTensor [num_heads, 2 * span, head_dim] each."""
    relative = relative[: 2 * attention.pos_ebd_size]
    unused = relative.new_empty(0)
    shared = attention.share_att_key
    c2p = p2c = unused
    if "c2p" in attention.pos_att_type:
        project = attention.key_proj if shared else attention.pos_key_proj
        c2p = _heads(project(relative)[None], attention.num_attention_heads)[0]
    if "p2c" in attention.pos_att_type:
        project = attention.query_proj if shared else attention.pos_query_proj
        p2c = _heads(project(relative)[None], attention.num_attention_heads)[0]
    return c2p, p2c


def _gather(scores: Tensor, index: Tensor) -> Tensor:
    return scores.gather(-1, index.expand(*scores.shape[:2], *index.shape))


def _log_buckets(distance: Tensor, buckets: int, max_position: int) -> Tensor:
    """Distances below half the buckets unchanged, larger ones on a log scale; LongTensor of the same shape."""
    middle = buckets // 2
    size = distance.abs().clamp(min=middle).float()
    # In float32 and in transformers' order: at a bucket's border the last bit decides.
    scaled = torch.log(size / middle) / torch.log(torch.tensor((max_position - 1) / middle)) * (middle - 1)
    far = torch.ceil(scaled) + middle
    return torch.where(distance.abs() <= middle, distance, (far * distance.sign()).long())
