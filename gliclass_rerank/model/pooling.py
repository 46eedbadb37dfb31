"""Pooling: the text's states become one vector, and so do each candidate's.

Mask-aware, so that padding never changes a score. Upstream pools without a mask; at batch size 1 there is no padding,
so the results agree there (docs/decisions/0002-upstream-quirks.md). Candidates are gathered by position, which the
planner knows: no one-hot product, no loop over candidates and no device synchronisation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from gliclass_rerank.model.config import ModelConfig

Pooler = Callable[[Tensor, Tensor], Tensor]


def _sum(states: Tensor, mask: Tensor) -> Tensor:
    return (states * mask[..., None]).sum(dim=1)


def _mean(states: Tensor, mask: Tensor) -> Tensor:
    return (states * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)


def _first(states: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG001 - one signature for all poolers
    return states[:, 0]


def _last(states: Tensor, mask: Tensor) -> Tensor:
    rows = torch.arange(states.shape[0], device=states.device)
    return states[rows, mask.sum(dim=1) - 1]


def _max(states: Tensor, mask: Tensor) -> Tensor:
    return states.masked_fill(~mask[..., None], -torch.inf).amax(dim=1)


def _rms(states: Tensor, mask: Tensor) -> Tensor:
    return _mean(states.square(), mask).sqrt()


def _abs_max(states: Tensor, mask: Tensor) -> Tensor:
    return _max(states.abs(), mask)


def _abs_mean(states: Tensor, mask: Tensor) -> Tensor:
    return _mean(states.abs(), mask)


def _keep(states: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG001 - one signature for all poolers
    return states


POOLERS: Mapping[str, Pooler] = {
    "first": _first,
    "last": _last,
    "max": _max,
    "avg": _mean,
    "sum": _sum,
    "rms": _rms,
    "abs_max": _abs_max,
    "abs_avg": _abs_mean,
    "pass": _keep,
}
"""`pooler(states, mask)` by the config's `pooling_strategy`.

`states` is FloatTensor [num_windows, seq_len, hidden], `mask` BoolTensor [num_windows, seq_len] with at least one True
a row, right-padded. The result is FloatTensor [num_windows, hidden]; `pass` returns the states as they are.
"""


def marker_states(states: Tensor, markers: Tensor, *, embed_marker: bool) -> Tensor:
    """The state at each marker, or at the token after it.

    Args:
        states: FloatTensor [num_windows, seq_len, hidden].
        markers: LongTensor [num_windows, max_passages]. Marker positions; empty slots hold any valid position.
        embed_marker: Whether the marker itself is read, else the token after it.

    Returns:
        FloatTensor [num_windows, max_passages, hidden].
    """
    positions = markers if embed_marker else (markers + 1).clamp(max=states.shape[1] - 1)
    return states.gather(1, positions[..., None].expand(-1, -1, states.shape[2]))


def span_means(
    states: Tensor,
    token_mask: Tensor,
    markers: Tensor,
    marker_mask: Tensor,
    *,
    text_start: Tensor | None,
    embed_marker: bool,
) -> Tensor:
    """The mean over each candidate's tokens: from its marker to just before the next one.

    Kept for checkpoint compatibility: without `text_start` the last candidate's span runs to the end of the
    sequence and swallows the text, as upstream's does (docs/decisions/0002-upstream-quirks.md).

    Args:
        states: FloatTensor [num_windows, seq_len, hidden].
        token_mask: BoolTensor [num_windows, seq_len]. True marks a real token.
        markers: LongTensor [num_windows, max_passages]. Marker positions, ascending.
        marker_mask: BoolTensor [num_windows, max_passages]. True on real slots.
        text_start: LongTensor [num_windows]. Where the last span ends, or None.
        embed_marker: Whether the marker's own state counts.

    Returns:
        FloatTensor [num_windows, max_passages, hidden]; a span without tokens is zero.
    """
    num_windows, seq_len, hidden = states.shape
    slots = markers.shape[1]
    is_marker = torch.zeros(num_windows, seq_len, dtype=torch.long, device=states.device)
    is_marker.scatter_add_(1, markers, marker_mask.long())
    counted = token_mask
    if text_start is not None:
        counted = counted & (torch.arange(seq_len, device=states.device) < text_start[:, None])
    if not embed_marker:
        counted = counted & (is_marker == 0)
    # Slot 0 collects what belongs to no candidate: tokens before the first marker, text, padding.
    slot = is_marker.cumsum(dim=1) * counted
    sums = states.new_zeros(num_windows, slots + 1, hidden)
    sums.scatter_add_(1, slot[..., None].expand(-1, -1, hidden), states)
    counts = states.new_zeros(num_windows, slots + 1)
    counts.scatter_add_(1, slot, torch.ones_like(slot, dtype=states.dtype))
    return sums[:, 1:] / counts[:, 1:, None].clamp(min=1)


def window_candidates(
    config: ModelConfig,
    states: Tensor,
    token_mask: Tensor,
    markers: Tensor,
    marker_mask: Tensor,
    text_start: Tensor,
) -> Tensor:
    """Candidate vectors of `joint` windows, as the config asks.

    Args:
        config: Says which pooling.
        states: FloatTensor [num_windows, seq_len, hidden].
        token_mask: BoolTensor [num_windows, seq_len]. True marks a real token.
        markers: LongTensor [num_windows, max_passages]. Marker positions, ascending.
        marker_mask: BoolTensor [num_windows, max_passages]. True on real slots.
        text_start: LongTensor [num_windows]. Position of the first separator.

    Returns:
        FloatTensor [num_windows, max_passages, hidden].
    """
    if config.class_token_pooling == "first":
        return marker_states(states, markers, embed_marker=config.embed_class_token)
    return span_means(
        states,
        token_mask,
        markers,
        marker_mask,
        text_start=text_start if config.extract_text_features else None,
        embed_marker=config.embed_class_token,
    )


def block_tokens_read(config: ModelConfig) -> int | None:
    """How many of a block's first tokens `block_candidates` reads; None for all."""
    if config.class_token_pooling != "first" or config.reads_all_layers or config.token_interaction:
        return None
    return 1 if config.embed_class_token else 2


def block_candidates(config: ModelConfig, states: Tensor, token_mask: Tensor) -> Tensor:
    """Candidate vectors of `shared_query` blocks: each row is one candidate, its marker at position 0.

    Args:
        config: Says which pooling.
        states: FloatTensor [num_rows, seq_len, hidden]; the first `block_tokens_read` tokens suffice.
        token_mask: BoolTensor [num_rows, seq_len]. True marks a real token.

    Returns:
        FloatTensor [num_rows, hidden].
    """
    if config.class_token_pooling == "first":
        # Without a closing token a blank candidate is its marker alone.
        return states[:, 0 if config.embed_class_token else min(1, states.shape[1] - 1)]
    counted = token_mask.clone()
    if not config.embed_class_token:
        counted[:, 0] = False
    return (states * counted[..., None]).sum(dim=1) / counted.sum(dim=1, keepdim=True).clamp(min=1)
