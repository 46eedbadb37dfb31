"""Plain attention over packed sequences: for tests and small batches, on any device and in any precision."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor

from gliclass_rerank.model.backbones.packed_attention import LayerView
from gliclass_rerank.model.packed_sequences import PackedSequences


def dense_attention(query: Tensor, key_value: Tensor, batch: PackedSequences, view: LayerView) -> Tensor:
    """Attend to all tokens, the invisible ones masked; see `PackedAttention`."""
    key, value = key_value.unbind(1)
    is_own, is_query = visible_keys(batch, view)
    scores = torch.einsum("qhd,khd->hqk", query, key) / math.sqrt(query.shape[-1])
    if view.key_bias is not None:
        scores = scores + view.key_bias.to(scores.dtype)[:, None, None] * is_query
    scores = scores.masked_fill(~(is_own | is_query), -torch.inf)
    return torch.einsum("hqk,khd->qhd", scores.softmax(dim=-1), value)


def visible_keys(batch: PackedSequences, view: LayerView) -> tuple[Tensor, Tensor]:
    """Keys that rows see in their own sequence, and in their query's: BoolTensor [num_rows, num_tokens] each."""
    sequence = sequence_of_tokens(batch)
    owner, positions = batch.owners[sequence], batch.positions
    own, theirs, places = sequence, owner, positions
    if view.rows.index is not None:
        own, theirs, places = (part.index_select(0, view.rows.index) for part in (sequence, owner, positions))
    is_own = own[:, None] == sequence[None, :]
    is_query = (theirs[:, None] == sequence[None, :]) & ~is_own if view.shares else torch.zeros_like(is_own)
    if view.reach is not None:
        near = (places[:, None] - positions[None, :]).abs() <= view.reach
        is_own, is_query = is_own & near, is_query & near
    return is_own, is_query


def sequence_of_tokens(batch: PackedSequences) -> Tensor:
    """Number of each token's sequence, LongTensor [num_tokens], without waiting for the device."""
    bounds = batch.all.bounds
    numbers = torch.arange(len(bounds) - 1, device=bounds.device)
    return numbers.repeat_interleave(bounds.diff(), output_size=batch.num_tokens)


def plain_kernel(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    query_bounds: Tensor,
    key_bounds: Tensor,
    longest_query: int,  # noqa: ARG001 - part of the kernel's interface
    longest_keys: int,  # noqa: ARG001 - likewise
    reach: int | None,
) -> tuple[Tensor, Tensor]:
    """Attend sequence by sequence; see `Kernel`."""
    states, sums = torch.empty_like(query), query.new_empty(query.shape[1::-1], dtype=torch.float32)
    for (first, stop), (first_key, stop_key) in zip(
        pairwise(query_bounds.tolist()), pairwise(key_bounds.tolist()), strict=True
    ):
        num_rows, num_keys = stop - first, stop_key - first_key
        scores = torch.einsum("qhd,khd->hqk", query[first:stop], key[first_key:stop_key])
        scores = scores / math.sqrt(query.shape[-1])
        if reach is not None:
            places = torch.arange(num_rows)[:, None] + num_keys - num_rows - torch.arange(num_keys)[None, :]
            scores = scores.masked_fill(places.abs() > reach, -torch.inf)
        sums[:, first:stop] = scores.logsumexp(dim=-1)
        states[first:stop] = torch.einsum("hqk,khd->qhd", scores.softmax(dim=-1), value[first_key:stop_key])
    return states, sums
