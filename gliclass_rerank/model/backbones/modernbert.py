"""ModernBERT in blocks (Ettin, mmBERT): rotary positions, local attention in two of three layers.

A candidate's positions follow the query's, and local windows span them, as in the pretrained sequence "query,
candidate".
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gliclass_rerank.model.backbones.packable import PackableRunner
from gliclass_rerank.model.backbones.runner import stock_embeddings


class ModernBertBlocks(PackableRunner):
    """Block runner of `transformers.ModernBertModel`."""

    positions_are_absolute = False  # rotary ones are relative

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__(backbone)
        self.embed = stock_embeddings(backbone)
        self.final_norm = backbone.final_norm  # type: ignore[assignment]
        width: int = backbone.config.sliding_window  # type: ignore[union-attr, assignment]
        kinds = [layer.attention_type for layer in self.layers]
        self.reach = [width if kind == "sliding_attention" else None for kind in kinds]

    @staticmethod
    def layers_of(backbone: Any) -> Any:  # Any: modules of a transformers model, untyped there
        """Transformer layers, in order."""
        return backbone.layers

    def project(self, layer: Any, states: Tensor, positions: Tensor, rows: int) -> tuple[Tensor, Tensor, Tensor]:
        """Rotated queries and keys, and values, of a layer."""
        heads = (-1, layer.attn.head_dim)
        normed, width = layer.attn_norm(states), states.shape[-1]
        # One fused matrix holds all three; only rows that are read need queries.
        weight, bias = layer.attn.Wqkv.weight, layer.attn.Wqkv.bias
        query: Tensor = functional.linear(normed[:, :rows], weight[:width], None if bias is None else bias[:width])
        both: Tensor = functional.linear(normed, weight[width:], None if bias is None else bias[width:])
        key, value = both.view(*both.shape[:-1], 2, *heads).unbind(dim=-3)
        rotary: Any = self.backbone.rotary_emb  # Any: a module of transformers, untyped there
        cos, sin = rotary(states, positions[None, :], layer.attention_type)
        query = _rotate(query.view(*query.shape[:-1], *heads).transpose(1, 2), cos[:, :rows], sin[:, :rows])
        return query, _rotate(key.transpose(1, 2), cos, sin), value.transpose(1, 2)

    def packed_tables(self, states: Tensor, positions: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """Cosines and signed sines by kind of layer, FloatTensor [num_tokens, 1, head_dim] each, float32."""
        rotary: Any = self.backbone.rotary_emb  # Any: a module of transformers, untyped there
        tables = {}
        for kind in dict.fromkeys(layer.attention_type for layer in self.layers):
            cos, sin = (part[0, :, None].float() for part in rotary(states, positions[None, :], kind))
            first, second = sin.chunk(2, dim=-1)
            tables[kind] = cos, torch.cat([-first, second], dim=-1)
        return tables

    def project_packed(
        self, layer: Any, states: Tensor, index: Tensor | None, tables: dict[str, tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, Tensor]:
        """Rotated queries and keys, and values, of packed tokens."""
        heads, width, normed = (-1, layer.attn.head_dim), states.shape[-1], layer.attn_norm(states)
        weight, bias, table = layer.attn.Wqkv.weight, layer.attn.Wqkv.bias, tables[layer.attention_type]
        if index is None:
            both = functional.linear(normed, weight, bias).view(len(states), 3, *heads)
            _rotate_in_place(both[:, :2], table)
            return both[:, 0], both[:, 1:]
        parts = (None, None) if bias is None else (bias[:width], bias[width:])
        query = functional.linear(normed.index_select(0, index), weight[:width], parts[0]).view(len(index), 1, *heads)
        key_value = functional.linear(normed, weight[width:], parts[1]).view(len(states), 2, *heads)
        _rotate_in_place(key_value[:, :1], table)
        _rotate_in_place(query, tuple(part.index_select(0, index) for part in table))
        return query[:, 0], key_value

    def finish(self, layer: Any, states: Tensor, context: Tensor) -> Tensor:
        """Output projection, residual and feed-forward."""
        states = states + layer.attn.Wo(context)
        finished: Tensor = states + layer.mlp(layer.mlp_norm(states))
        return finished


def _rotate(states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    # In float32 as in transformers, so that half precision agrees with the joint plan.
    first, second = states.chunk(2, dim=-1)
    turned = torch.cat([-second, first], dim=-1)
    return (states.float() * cos[:, None] + turned.float() * sin[:, None]).to(states.dtype)


def _rotate_in_place(states: Tensor, table: tuple[Tensor, ...]) -> None:
    """Rotate packed states [num_tokens, parts, num_heads, head_dim], in float32 likewise."""
    cos, sin = (part[:, None] for part in table)
    states.copy_(torch.addcmul(states * cos, states.roll(states.shape[-1] // 2, dims=-1), sin))
