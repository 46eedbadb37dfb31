"""Explicit attention for cases that `scaled_dot_product_attention` does not cover."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gliclass_rerank.model.backbones.interface import KeyValue


def attend_beside(query: Tensor, shared: KeyValue, own: KeyValue, mask: Tensor | None) -> Tensor:
    """Attend to [shared keys; own keys] without copying the shared ones per row; faster for many short rows.

    Equal to `scaled_dot_product_attention` over concatenated keys and values, whose copies dominate when rows are
    shorter
    than `head_dim`. The cost here is the materialised score matrix.

    Args:
        query: FloatTensor [num_rows, num_heads, num_queries, head_dim].
        shared: Keys and values of all rows, FloatTensor [1, num_heads, num_shared, head_dim] each.
        own: Keys and values of each row, FloatTensor [num_rows, num_heads, num_own, head_dim] each.
        mask: Broadcasts to [num_rows, num_heads, num_queries, num_shared + num_own]: True on visible keys, or additive;
            None for no mask.

    Returns:
        FloatTensor [num_rows, num_heads, num_queries, head_dim].
    """
    (shared_key, shared_value), (own_key, own_value) = shared, own
    num_rows, num_heads, num_queries, head_dim = query.shape
    query = query / math.sqrt(head_dim)
    at_once = _at_once(query) @ shared_key[0].transpose(1, 2)
    seen = at_once.view(num_heads, num_rows, num_queries, -1).transpose(0, 1)
    scores = torch.cat([seen, query @ own_key.transpose(-1, -2)], dim=-1)
    weights, num_shared = masked(scores, mask).softmax(dim=-1), shared_key.shape[2]
    from_shared = _at_once(weights[..., :num_shared]) @ shared_value[0]
    own_part: Tensor = weights[..., num_shared:] @ own_value
    return own_part + from_shared.view(num_heads, num_rows, num_queries, head_dim).transpose(0, 1)


def masked(scores: Tensor, mask: Tensor | None) -> Tensor:
    """Apply a boolean or additive mask to scores [num_rows, num_heads, num_queries, num_keys].

    Hidden scores become very low but stay finite: a padding row may see nothing, and its NaN would spread.
    """
    if mask is None:
        return scores
    lowest = torch.finfo(scores.dtype).min / 2
    return scores.masked_fill(~mask, lowest) if mask.dtype == torch.bool else scores + mask.clamp_min(lowest)


def _at_once(each_row: Tensor) -> Tensor:
    """Reshape [num_rows, num_heads, num_queries, width] to [num_heads, num_rows * num_queries, width]."""
    return each_row.transpose(0, 1).flatten(1, 2)
