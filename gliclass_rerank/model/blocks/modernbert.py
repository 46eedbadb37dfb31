"""ModernBERT in blocks (Ettin, mmBERT): rotary positions, local attention in two layers of three.

A candidate's positions follow the query's. Local layers keep their window over those positions, as if the sequence were
"query, this candidate": what the pretrained weights know from pairs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from gliclass_rerank.model.blocks.runner import BlockRunner


class ModernBertBlocks(BlockRunner):
    """Takes `transformers.ModernBertModel` apart."""

    @property
    def layers(self) -> Any:  # Any: modules of a transformers model, untyped there
        """The transformer layers, in order."""
        return self.backbone.layers

    @property
    def positions_are_absolute(self) -> bool:
        """Rotary positions are relative."""
        return False

    def project(self, layer: int, states: Tensor, positions: Tensor, rows: int) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of a layer; queries and keys rotated by their position."""
        module = self.layers[layer]
        heads = (-1, module.attn.head_dim)
        normed, width = module.attn_norm(states), states.shape[-1]
        # One fused matrix holds all three; only the rows that are read need queries.
        weight, bias = module.attn.Wqkv.weight, module.attn.Wqkv.bias
        query: Tensor = functional.linear(normed[:, :rows], weight[:width], None if bias is None else bias[:width])
        both: Tensor = functional.linear(normed, weight[width:], None if bias is None else bias[width:])
        key, value = both.view(*both.shape[:-1], 2, *heads).unbind(dim=-3)
        rotary: Any = self.backbone.rotary_emb  # Any: see layers
        cos, sin = rotary(states, positions[None, :], module.attention_type)
        query = _rotate(query.view(*query.shape[:-1], *heads).transpose(1, 2), cos[:, :rows], sin[:, :rows])
        return query, _rotate(key.transpose(1, 2), cos, sin), value.transpose(1, 2)

    def finish(self, layer: int, states: Tensor, context: Tensor) -> Tensor:
        """Output projection, residual, feed-forward."""
        module = self.layers[layer]
        states = states + module.attn.Wo(context)
        finished: Tensor = states + module.mlp(module.mlp_norm(states))
        return finished

    def close(self, states: Tensor) -> Tensor:
        """The final norm."""
        module: Any = self.backbone.final_norm  # Any: see layers
        closed: Tensor = module(states)
        return closed

    def visible(self, layer: int, query_positions: Tensor, key_positions: Tensor) -> Tensor | None:
        """The local window of local layers; None in layers with full attention."""
        if self.layers[layer].attention_type != "sliding_attention":
            return None
        reach: int = self.backbone.config.sliding_window  # type: ignore[union-attr, assignment]
        return (query_positions[:, None] - key_positions[None, :]).abs() <= reach


def _rotate(states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    # In float32 as transformers does it, so that half precision agrees with the joint plan.
    first, second = states.chunk(2, dim=-1)
    turned = torch.cat([-second, first], dim=-1)
    return (states.float() * cos[:, None] + turned.float() * sin[:, None]).to(states.dtype)
