"""Collation of training items: groups of similar length, padded to few shapes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

import torch
from torch import Tensor
from torch.nn import functional

from gliclass_rerank.learn.training.stream import Item
from gliclass_rerank.model.batch import BlockBatch, Collator, TokenRows, WindowBatch
from gliclass_rerank.model.config import ModelConfig
from gliclass_rerank.types import Blocks, Window


@dataclass(frozen=True)
class Batch:
    """Items of one forward pass, as tensors.

    Attributes:
        inputs: Model input.
        items: Items; exactly one for blocks.
        orders: Candidate positions in the order of each item's logits.
        num_padded: Tokens with padding.
    """

    inputs: WindowBatch | BlockBatch
    items: tuple[Item, ...]
    orders: tuple[tuple[int, ...], ...]
    num_padded: int

    @property
    def num_tokens(self) -> int:
        """Tokens without padding."""
        return sum(item.num_tokens for item in self.items)

    def rows(self, output: Tensor) -> tuple[Tensor, ...]:
        """Select each item's rows from the model output for `inputs`.

        Args:
            output: [num_windows, max_passages, ...] or [num_candidates, ...].

        Returns:
            One tensor per item, [num_candidates, ...] in the order of `orders`.
        """
        if isinstance(self.inputs, WindowBatch) and output.shape[:2] == self.inputs.marker_mask.shape:
            output = output[self.inputs.marker_mask]
        return torch.split(output, [len(order) for order in self.orders])


class ItemCollator:
    """Collator of training items with bucketed shapes.

    Args:
        config: Config of the model.
        device: Device of the tensors.
        multiple: Divisor of a group's total tokens, padding included.
        group_tokens: Maximum tokens per group; a longer sequence is alone.
        group_cost: Overhead of a group, in tokens.
        row_multiple: Divisor of each row's tokens in groups of several, padding included.
    """

    def __init__(
        self,
        config: ModelConfig,
        device: torch.device,
        *,
        multiple: int,
        group_tokens: int,
        group_cost: int,
        row_multiple: int = 1,
    ) -> None:
        self._collate, self._multiple, self._row_multiple = Collator.of(config, device), multiple, row_multiple
        self._group_tokens, self._group_cost = group_tokens, group_cost

    def __call__(self, items: Sequence[Item]) -> list[Batch]:
        """Collate items to batches.

        Blocks run item by item. Single-window items share forward passes, because weight gradients would dominate a
        short one.
        An item of several windows runs alone: its loss needs them all.
        """
        batches, single = [], []
        for item in items:
            if isinstance(item.plan.requests[0], Blocks):
                batches.append(self._block_batch(item))
            elif len(item.plan.requests) > 1:
                batches.append(self._window_batch([item]))
            else:
                single.append(item)
        if single:
            groups = self._groups([len(_window(item.plan.requests[0]).token_ids) for item in single])
            batches += [self._window_batch([single[index] for index in group]) for group in groups]
        return batches

    def _groups(self, lengths: Sequence[int]) -> list[list[int]]:
        return group_by_length(
            lengths, self._multiple, self._group_tokens, self._group_cost, row_multiple=self._row_multiple
        )

    def _block_batch(self, item: Item) -> Batch:
        (blocks,) = item.plan.requests
        assert isinstance(blocks, Blocks), "chosen by type"
        groups = self._groups([len(ids) for ids in blocks.candidate_ids])
        batch = self._collate.blocks(blocks, groups)
        pad_id = self._collate.label_pad_id
        batch = replace(batch, groups=tuple(self._rounded(group, pad_id) for group in batch.groups))
        num_padded = sum(rows.ids.numel() for rows in (batch.query, *batch.groups))
        return Batch(batch, (item,), (tuple(chain.from_iterable(groups)),), num_padded)

    def _window_batch(self, items: Sequence[Item]) -> Batch:
        windows = [_window(request) for item in items for request in item.plan.requests]
        batch = self._collate.windows(windows)
        batch = replace(batch, tokens=self._rounded(batch.tokens, self._collate.pad_id))
        orders = tuple(tuple(chain.from_iterable(item.plan.members)) for item in items)
        num_padded = batch.tokens.ids.numel() + (0 if batch.candidates is None else batch.candidates.ids.numel())
        return Batch(batch, tuple(items), orders, num_padded)

    def _rounded(self, rows: TokenRows, pad_id: int) -> TokenRows:
        num_rows, seq_len = rows.ids.shape
        extra = rounded_width(num_rows, seq_len, self._multiple, self._row_multiple) - seq_len
        if extra == 0:
            return rows
        return TokenRows(
            functional.pad(rows.ids, (0, extra), value=pad_id),
            functional.pad(rows.mask, (0, extra), value=False),
            is_padded=True,
        )


def _window(request: Window | Blocks) -> Window:
    assert isinstance(request, Window), "a plan is blocks or windows"
    return request


def rounded_width(num_rows: int, seq_len: int, multiple: int, row_multiple: int = 1) -> int:
    """Smallest width from `seq_len` on that makes the rows' total a multiple of `multiple`.

    Several rows are rounded up to a multiple of `row_multiple` first.
    """
    if num_rows > 1:
        seq_len = -(-seq_len // row_multiple) * row_multiple
    step = multiple // math.gcd(num_rows, multiple)
    return -(-seq_len // step) * step


def group_by_length(
    lengths: Sequence[int], multiple: int, max_tokens: int, group_cost: int, *, row_multiple: int = 1
) -> list[list[int]]:
    """Group sequences to minimise padding and group overhead, by dynamic programming over sorted lengths.

    Args:
        lengths: Tokens of each sequence, at least one.
        multiple: Divisor of a group's total tokens.
        max_tokens: Maximum tokens per group, except for a single sequence.
        group_cost: Overhead of a group, in tokens.
        row_multiple: Divisor of each row's tokens in groups of several.

    Returns:
        Positions of the sequences, longest first, each once.
    """
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    best, cuts = [0.0], [0]
    for end in range(1, len(order) + 1):
        costs = []
        for start in range(end - 1, -1, -1):
            tokens = (end - start) * rounded_width(end - start, lengths[order[start]], multiple, row_multiple)
            if tokens > max_tokens and end - start > 1:
                if (end - start) * lengths[order[start]] > max_tokens:
                    break  # longer groups only grow
                continue
            costs.append((best[start] + tokens + group_cost, start))
        cost, cut = min(costs)
        best.append(cost)
        cuts.append(cut)
    groups, end = [], len(order)
    while end:
        groups.append(order[cuts[end] : end])
        end = cuts[end]
    return groups[::-1]


def targets_of(values: Sequence[float], order: Sequence[int], device: torch.device) -> Tensor:
    """Targets of a question's candidates in the order of an item's logits; FloatTensor [num_candidates]."""
    return torch.tensor([values[index] for index in order], dtype=torch.float32, device=device)
