"""Explicit attention for cases that `scaled_dot_product_attention` does not cover."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from gliclass_rerank.model.backbones.interface import KeyValue
from gliclass_rerank.model.bucketing import filling

# Of a shared key's tokens, in half precision.
_STEP: Final = 32


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
    query, num_shared = query / math.sqrt(query.shape[-1]), shared_key.shape[2]
    is_full = query.dtype == torch.float32
    with_shared, with_own = (_at_once, torch.matmul) if is_full else (_at_once_filled, _in_float32)
    seen = with_shared(query, shared_key[0].transpose(1, 2))
    scores = torch.cat([seen, with_own(query, own_key.transpose(-1, -2))], dim=-1)
    weights = masked(scores, mask).softmax(dim=-1)
    from_shared = with_shared(weights[..., :num_shared], shared_value[0])
    return with_own(weights[..., num_shared:], own_value) + from_shared


def masked(scores: Tensor, mask: Tensor | None) -> Tensor:
    """Apply a boolean or additive mask to scores [num_rows, num_heads, num_queries, num_keys].

    Hidden scores become very low but stay finite: a padding row may see nothing, and its NaN would spread.
    """
    if mask is None:
        return scores
    lowest = torch.finfo(scores.dtype).min / 2
    return scores.masked_fill(~mask, lowest) if mask.dtype == torch.bool else scores + mask.clamp_min(lowest)


def _at_once(each_row: Tensor, shared: Tensor) -> Tensor:
    """The product with what all rows share.

    Args:
        each_row: FloatTensor [num_rows, num_heads, num_queries, width].
        shared: FloatTensor [num_heads, width, num_outputs].

    Returns:
        FloatTensor [num_rows, num_heads, num_queries, num_outputs].
    """
    products = each_row.transpose(0, 1).flatten(1, 2) @ shared
    return products.view(shared.shape[0], each_row.shape[0], each_row.shape[2], -1).transpose(0, 1)


def _at_once_filled(each_row: Tensor, shared: Tensor) -> Tensor:
    """The same in few shapes, for oneDNN, which multiplies in half precision (`model/bucketing.py`)."""
    num_rows, num_heads, num_queries, width = each_row.shape
    num_tokens, num_outputs = num_rows * num_queries, shared.shape[2]
    wide = width + -width % _STEP
    filled = each_row.new_empty(num_heads, num_tokens + filling(num_tokens), wide)
    filled[..., width:] = 0
    if torch.is_grad_enabled():  # else nobody reads what becomes of the other rows; a gradient adds up 0 times them
        filled[:, num_tokens:] = 0
    rows = filled[:, :num_tokens].view(num_heads, num_rows, num_queries, wide)
    rows[..., :width] = each_row.transpose(0, 1)
    products = filled @ functional.pad(shared, (0, -num_outputs % _STEP, 0, wide - width))
    found = products[:, :num_tokens, :num_outputs]
    return found.view(num_heads, num_rows, num_queries, num_outputs).transpose(0, 1)


def _in_float32(left: Tensor, right: Tensor) -> Tensor:
    """The product of small matrices, whose shapes are too many to be few, without oneDNN."""
    return (left.float() @ right.float()).to(left.dtype)
