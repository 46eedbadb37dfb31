"""Pooling of states to one vector for the text and one per candidate.

Masked, so that padding never changes a score; upstream pools without a mask, and agrees at batch size 1
(docs/decisions/0002-upstream-quirks.md). Candidates are gathered by position, without device synchronisation.
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

`states` is FloatTensor [num_windows, seq_len, hidden]; `mask`, BoolTensor [num_windows, seq_len], has at least one True
per row and is right-padded. Results are FloatTensor [num_windows, hidden]; `pass` returns the states.
"""


def marker_states(states: Tensor, markers: Tensor, *, embed_marker: bool) -> Tensor:
    """Gather the state at each marker, or at the token after it.

    Args:
        states: FloatTensor [num_windows, seq_len, hidden].
        markers: LongTensor [num_windows, max_passages]. Marker positions; any valid position in empty slots.
        embed_marker: Read the marker, else the token after it.

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
    """Average each candidate's tokens, from its marker to just before the next one.

    Kept for checkpoint compatibility: without `text_start` the last candidate's span runs to the end of the sequence,
    text included, as in upstream (docs/decisions/0002-upstream-quirks.md).

    Args:
        states: FloatTensor [num_windows, seq_len, hidden].
        token_mask: BoolTensor [num_windows, seq_len]. True on tokens.
        markers: LongTensor [num_windows, max_passages]. Marker positions, ascending.
        marker_mask: BoolTensor [num_windows, max_passages]. True on filled slots.
        text_start: LongTensor [num_windows]. End of the last span, or None.
        embed_marker: Include the marker's own state.

    Returns:
        FloatTensor [num_windows, max_passages, hidden]; zero for an empty span.
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
    # Slot 0 collects all other tokens: those before the first marker, text, padding.
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
    """Candidate vectors of `joint` windows.

    Args:
        config: Config with the pooling settings.
        states: FloatTensor [num_windows, seq_len, hidden].
        token_mask: BoolTensor [num_windows, seq_len]. True on tokens.
        markers: LongTensor [num_windows, max_passages]. Marker positions, ascending.
        marker_mask: BoolTensor [num_windows, max_passages]. True on filled slots.
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


def query_tokens_read(config: ModelConfig) -> int | None:
    """Number of a query's leading tokens whose last states are read under `shared_query`; None for all."""
    if config.pooling_strategy != "first" or config.use_lstm or config.reads_all_layers or config.token_interaction:
        return None
    return 1


def block_tokens_read(config: ModelConfig) -> int | None:
    """Number of leading tokens that `block_candidates` reads; None for all."""
    if config.class_token_pooling != "first" or config.reads_all_layers or config.token_interaction:
        return None
    return 1 if config.embed_class_token else 2


def block_candidates(config: ModelConfig, states: Tensor, token_mask: Tensor) -> Tensor:
    """Candidate vectors of `shared_query` blocks: one candidate per row, marker at position 0.

    Args:
        config: Config with the pooling settings.
        states: FloatTensor [num_rows, seq_len, hidden]; the first `block_tokens_read` tokens suffice.
        token_mask: BoolTensor [num_rows, seq_len]. True on tokens.

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
