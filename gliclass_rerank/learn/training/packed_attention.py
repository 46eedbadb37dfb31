"""Attention over a packing, forward and backward, in plain matrix products.

Several times faster than the backward pass of torch's fused CPU kernel in bfloat16, which also leaves its fast path in
float32 with a bias. Attention weights are kept: reading them is cheaper than recomputing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from gliclass_rerank.learn.training.packing import Packing, Span


@dataclass(frozen=True)
class Kept:
    """Tensors of a span for the backward pass.

    Attributes:
        query: FloatTensor [num_rows * num_heads, seen, head_dim].
        key: FloatTensor [num_rows * num_heads, num_keys, head_dim]; the shared query's come first.
        value: FloatTensor [num_rows * num_heads, num_keys, head_dim].
        weights: FloatTensor [num_rows * num_heads, seen, num_keys].
    """

    query: Tensor
    key: Tensor
    value: Tensor
    weights: Tensor


def attend(projected: Tensor, packing: Packing, key_bias: Tensor | None, *, shares: bool) -> tuple[Tensor, list[Kept]]:
    """Let queries attend to themselves, and candidates each to itself and, perhaps, the query.

    Args:
        projected: FloatTensor [num_tokens, 3, num_heads, head_dim]. Queries, keys and values.
        packing: Layout of the sequences.
        key_bias: FloatTensor [num_heads], added to scores on the shared query's tokens; None for none.
        shares: Candidates see the query.

    Returns:
        FloatTensor [num_tokens, num_heads, head_dim], and the tensors for `attend_backward`, span by span.
    """
    context, kept = torch.empty_like(projected[:, 0]), []
    context[packing.num_used :] = 0
    for query, groups in packing.items:
        kept.append(_attend(projected, query, None, None, context))
        kept += [_attend(projected, group, query if shares else None, key_bias, context) for group in groups]
    return context, kept


def attend_backward(
    gradient: Tensor, packing: Packing, kept: list[Kept], *, shares: bool
) -> tuple[Tensor, Tensor | None]:
    """Gradients of `attend`.

    Args:
        gradient: FloatTensor [num_tokens, num_heads, head_dim]. Gradient of the output.
        packing: Layout of the sequences.
        kept: Tensors from `attend`.
        shares: Candidates see the query.

    Returns:
        Gradients of `projected` and `key_bias` (FloatTensor [num_heads], float32; None if nothing is shared).
    """
    num_tokens, num_heads, head_dim = gradient.shape
    of_projected = gradient.new_empty(num_tokens, 3, num_heads, head_dim)
    of_projected[packing.num_used :] = 0
    of_bias = gradient.new_zeros(num_heads, dtype=torch.float32) if shares else None
    remaining = iter(kept)
    for query, groups in packing.items:
        _attend_backward(gradient, query, next(remaining), of_projected, None)
        # In float32, because it is a sum over groups.
        of_shared = gradient.new_zeros(2, num_heads, query.seen, head_dim, dtype=torch.float32) if shares else None
        for group in groups:
            of_scores = _attend_backward(gradient, group, next(remaining), of_projected, of_shared)
            if of_bias is not None:
                of_bias += of_scores[..., : query.seen].sum(dim=(0, 2, 3), dtype=torch.float32)
        if of_shared is not None:
            of_projected[query.start : query.stop, 1:] += of_shared[:, :, : query.width].permute(2, 0, 1, 3)
    return of_projected, of_bias


def _attend(projected: Tensor, span: Span, shared: Span | None, key_bias: Tensor | None, context: Tensor) -> Kept:
    _, _, num_heads, head_dim = projected.shape
    batch = span.num_rows * num_heads
    own = span.windows(projected).permute(2, 0, 3, 1, 4)
    query, both = own[0].reshape(batch, span.seen, head_dim), own[1:]
    if shared is not None:
        theirs = shared.windows(projected).permute(2, 0, 3, 1, 4)[1:]
        both = torch.cat([theirs.expand(-1, span.num_rows, -1, -1, -1), both], dim=3)
    key, value = both.reshape(2, batch, -1, head_dim)
    bias = _bias(span, shared, key_bias, query)
    scores = torch.baddbmm(
        query.new_empty(1, 1, 1) if bias is None else bias.expand(-1, span.seen, -1),
        query,
        key.transpose(1, 2),
        beta=0 if bias is None else 1,
        alpha=1 / math.sqrt(head_dim),
    )
    weights = scores.softmax(dim=-1)
    attended = torch.bmm(weights, value).view(span.num_rows, num_heads, span.seen, head_dim)
    span.rows(context).copy_(attended[:, :, : span.width].transpose(1, 2))
    return Kept(query, key, value, weights)


def _bias(span: Span, shared: Span | None, key_bias: Tensor | None, like: Tensor) -> Tensor | None:
    """Additive scores, FloatTensor [num_rows * num_heads, 1, num_keys], or None."""
    if span.mask is None and (shared is None or (key_bias is None and shared.mask is None)):
        return None
    num_keys = span.seen + (0 if shared is None else shared.seen)
    num_heads = like.shape[0] // span.num_rows
    bias = like.new_zeros(span.num_rows, num_heads, 1, num_keys)
    if span.mask is not None:
        bias[..., num_keys - span.seen :] = span.mask
    if shared is not None and key_bias is not None:
        bias[..., : shared.seen] = key_bias[:, None, None]
    if shared is not None and shared.mask is not None:
        bias[..., : shared.seen] += shared.mask
    return bias.view(like.shape[0], 1, num_keys)


def _attend_backward(
    gradient: Tensor, span: Span, kept: Kept, of_projected: Tensor, of_shared: Tensor | None
) -> Tensor:
    """Write a span's own gradients, add the shared query's, and return the scores'."""
    _, num_heads, head_dim = gradient.shape
    rows, seen, num_keys = span.num_rows, span.seen, kept.key.shape[1]
    scale = 1 / math.sqrt(head_dim)
    # Zeros, not the next sequence's, where attention sees beyond its own.
    given = functional.pad(span.rows(gradient).transpose(1, 2), (0, 0, 0, seen - span.width))
    given = given.reshape(rows * num_heads, seen, head_dim)
    of_weights = torch.bmm(given, kept.value.transpose(1, 2))
    of_scores = torch.ops.aten._softmax_backward_data(of_weights, kept.weights, -1, of_weights.dtype)
    unread = given.new_empty(1, 1, 1)
    of_query = torch.baddbmm(unread, of_scores, kept.key, beta=0, alpha=scale)
    of_key = torch.baddbmm(unread, of_scores.transpose(1, 2), kept.query, beta=0, alpha=scale)
    of_value = torch.bmm(kept.weights.transpose(1, 2), given)
    own = span.rows(of_projected)
    own[:, :, 0] = of_query.view(rows, num_heads, seen, head_dim)[:, :, : span.width].transpose(1, 2)
    for number, part in enumerate((of_key, of_value), start=1):
        part_of_shared, part_of_own = torch.split(
            part.view(rows, num_heads, num_keys, head_dim), [num_keys - seen, seen], dim=2
        )
        own[:, :, number] = part_of_own[:, :, : span.width].transpose(1, 2)
        if of_shared is not None:
            of_shared[number - 1] += part_of_shared.sum(dim=0)
    found: Tensor = of_scores.view(rows, num_heads, seen, num_keys)
    return found
