"""Attention over packed sequences: the interface, and flash attention for sequences of different lengths.

A candidate attends to its query and to itself. With a short query each candidate gets a copy of the query's keys, and
one call attends to both. With a long query, or a bias on its keys, two calls attend to each, and their results are
merged by the logarithms of their softmax sums: a constant bias shifts the query's.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import torch
from torch import Tensor

from gliclass_rerank.model.packed_sequences import PackedSequences, Rows

# Of a query. Up to this many tokens copies of its keys cost less than a second call.
_SHORT_QUERY: Final = 128

Kernel = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, int, int, "int | None"], tuple[Tensor, Tensor]]
"""`kernel(query, key, value, query_bounds, key_bounds, longest_query, longest_keys, reach)`.

Each sequence of queries, FloatTensor [num_queries, num_heads, head_dim], attends to its sequence of keys, aligned at
their ends; with a `reach` to that many keys on either side. Returns the output and the logarithms of the softmax sums,
FloatTensor [num_heads, num_queries], float32.
"""


@dataclass(frozen=True)
class LayerView:
    """Attention view of the rows of a layer.

    Attributes:
        rows: Attending tokens.
        shares: Candidates see their query.
        reach: Attention window to either side; None for unlimited.
        key_bias: FloatTensor [num_heads], added to candidates' scores on query tokens; None for none.
    """

    rows: Rows
    shares: bool
    reach: int | None = None
    key_bias: Tensor | None = None


class PackedAttention(Protocol):
    """Attention over packed sequences; has no state of a call."""

    def __call__(self, query: Tensor, key_value: Tensor, batch: PackedSequences, view: LayerView) -> Tensor:
        """Attend.

        Args:
            query: FloatTensor [num_rows, num_heads, head_dim].
            key_value: FloatTensor [num_tokens, 2, num_heads, head_dim]. Keys and values of all tokens.
            batch: Packed sequences.
            view: What rows see.

        Returns:
            FloatTensor [num_rows, num_heads, head_dim].
        """
        ...


class VarlenAttention:
    """Flash attention for sequences of different lengths.

    Args:
        kernel: Attention of several sequences.
    """

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def __call__(self, query: Tensor, key_value: Tensor, batch: PackedSequences, view: LayerView) -> Tensor:
        """Attend; see `PackedAttention`."""
        rows, every = view.rows, batch.all
        if view.shares:
            if view.reach is None and (view.key_bias is not None or batch.longest_query > _SHORT_QUERY):
                return self._in_two_parts(query, key_value, batch, view)
            assert view.key_bias is None, "refused for layers with a window"
            seen, bounds, longest = key_value.index_select(0, batch.keys), batch.key_bounds, batch.longest_keys
        else:
            seen, bounds, longest = key_value, every.bounds, every.longest
        return self._kernel(query, seen[:, 0], seen[:, 1], rows.bounds, bounds, rows.longest, longest, view.reach)[0]

    def _in_two_parts(self, query: Tensor, key_value: Tensor, batch: PackedSequences, view: LayerView) -> Tensor:
        rows, every, (key, value) = view.rows, batch.all, key_value.unbind(1)
        states, own = self._kernel(query, key, value, rows.bounds, every.bounds, rows.longest, every.longest, None)
        first, num_shared = rows.first_candidate, every.first_candidate
        # All candidates of a query are one sequence here, because none of them masks the query's tokens.
        from_query, theirs = self._kernel(
            query[first:],
            key[:num_shared],
            value[:num_shared],
            rows.by_query,
            every.bounds[: batch.num_queries + 1],
            rows.longest_by_query,
            batch.longest_query,
            None,
        )
        if view.key_bias is not None:
            theirs = theirs + view.key_bias[:, None]
        weight = torch.sigmoid(theirs - own[:, first:]).T[..., None]
        states[first:].lerp_(from_query, weight.to(states.dtype))
        return states


def flash_kernel() -> Kernel:
    """Torch's flash attention for sequences of different lengths; CUDA in half precision."""
    from torch.nn.attention.varlen import AuxRequest, varlen_attn

    # One split of the keys makes results independent of what else is in the batch; older versions have no choice.
    options: dict[str, Any] = {"num_splits": 1} if "num_splits" in inspect.signature(varlen_attn).parameters else {}

    def attend(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        query_bounds: Tensor,
        key_bounds: Tensor,
        longest_query: int,
        longest_keys: int,
        reach: int | None,
    ) -> tuple[Tensor, Tensor]:
        window = (-1, -1) if reach is None else (reach, reach)
        states, sums = varlen_attn(
            query,
            key,
            value,
            query_bounds,
            key_bounds,
            longest_query,
            longest_keys,
            window_size=window,
            return_aux=AuxRequest(lse=True),
            **options,
        )
        return states, sums

    return attend


def has_flash_kernel() -> bool:
    """Test for a torch whose `varlen_attn` has windows (2.11 or newer)."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return False
    return "window_size" in inspect.signature(varlen_attn).parameters
