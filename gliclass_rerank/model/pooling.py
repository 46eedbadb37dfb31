"""Text poolers, all mask-aware: padding never changes a score.

Upstream pools without a mask; at batch size 1 there is no padding, so the results agree there
(docs/decisions/0002-upstream-quirks.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Pooler = Callable[[Tensor, Tensor], Tensor]


def _sum(states: Tensor, mask: Tensor) -> Tensor:
    return (states * mask[..., None]).sum(dim=1)


def _mean(states: Tensor, mask: Tensor) -> Tensor:
    return _sum(states, mask) / mask.sum(dim=1, keepdim=True)


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
