"""One item as tensors: candidates of similar length together, padded to few shapes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor
from torch.nn import functional

from gliclass_rerank.model.batch import BlockBatch, TokenRows, WindowBatch
from gliclass_rerank.model.config import ModelConfig
from gliclass_rerank.training.stream import Item
from gliclass_rerank.types import Blocks, Window


@dataclass(frozen=True)
class ItemBatch:
    """An item as tensors.

    Attributes:
        inputs: What the model reads.
        order: For each logit that counts, its candidate's position in the question.
        num_tokens: Tokens without padding.
        num_padded: Tokens with padding.
    """

    inputs: WindowBatch | BlockBatch
    order: tuple[int, ...]
    num_tokens: int
    num_padded: int

    def logits(self, output: Tensor) -> Tensor:
        """Pick the logits that stand for candidates out of the model's output.

        Args:
            output: FloatTensor [num_windows, max_passages] or [num_candidates]. What the model returned for `inputs`.

        Returns:
            FloatTensor [num_candidates], in the order of `order`.
        """
        return output[self.inputs.marker_mask] if isinstance(self.inputs, WindowBatch) else output


class Collator:
    """Makes tensors of items: candidates of similar length together, shapes rounded.

    Args:
        config: The model's config.
        device: Where tensors go.
        multiple: Sequences that run together have a multiple of so many tokens in all, padding included.
        group_tokens: Tokens of candidates that run together, at most; a longer candidate is alone.
        group_cost: What running one group more costs, in tokens.
    """

    def __init__(
        self, config: ModelConfig, device: torch.device, *, multiple: int, group_tokens: int, group_cost: int
    ) -> None:
        self._device, self._multiple = device, multiple
        self._group_tokens, self._group_cost = group_tokens, group_cost
        self._pad_id = config.shape.pad_id
        self._label_pad_id = config.label_shape.pad_id if config.is_bi_encoder else config.shape.pad_id

    def __call__(self, item: Item) -> ItemBatch:
        """Collate one item."""
        first = item.plan.requests[0]
        inputs: WindowBatch | BlockBatch
        if isinstance(first, Blocks):
            lengths = [len(ids) for ids in first.candidate_ids]
            groups = group_by_length(lengths, self._multiple, self._group_tokens, self._group_cost)
            blocks = BlockBatch.of(
                first, groups, pad_id=self._pad_id, label_pad_id=self._label_pad_id, device=self._device
            )
            inputs = BlockBatch(
                blocks.query, tuple(self._rounded(group, self._label_pad_id) for group in blocks.groups)
            )
            order = tuple(chain.from_iterable(groups))
            padded = [inputs.query, *inputs.groups]
        else:
            windows = [request for request in item.plan.requests if isinstance(request, Window)]
            batch = WindowBatch.of(windows, pad_id=self._pad_id, label_pad_id=self._label_pad_id, device=self._device)
            tokens = self._rounded(batch.tokens, self._pad_id)
            inputs = WindowBatch(tokens, batch.markers, batch.marker_mask, batch.text_start, batch.candidates)
            order = tuple(chain.from_iterable(item.plan.members))
            padded = [tokens, *([] if batch.candidates is None else [batch.candidates])]
        return ItemBatch(inputs, order, item.num_tokens, sum(rows.ids.numel() for rows in padded))

    def _rounded(self, rows: TokenRows, pad_id: int) -> TokenRows:
        num_rows, seq_len = rows.ids.shape
        extra = rounded_width(num_rows, seq_len, self._multiple) - seq_len
        if extra == 0:
            return rows
        return TokenRows(
            functional.pad(rows.ids, (0, extra), value=pad_id),
            functional.pad(rows.mask, (0, extra), value=False),
            is_padded=True,
        )


def rounded_width(num_rows: int, seq_len: int, multiple: int) -> int:
    """The least width of at least `seq_len` with which the rows have a multiple of `multiple` tokens in all."""
    step = multiple // math.gcd(num_rows, multiple)
    return -(-seq_len // step) * step


def group_by_length(lengths: Sequence[int], multiple: int, max_tokens: int, group_cost: int) -> list[list[int]]:
    """Group candidates so that padding and the cost of groups together are least.

    Exact, by dynamic programming over the candidates in order of length.

    Args:
        lengths: Tokens of each candidate, at least one candidate.
        multiple: A group's tokens are rounded up to a multiple of this.
        max_tokens: Tokens of a group at most, unless it is a single candidate.
        group_cost: What one group more costs, in tokens.

    Returns:
        Positions of the candidates, longest first, each once.
    """
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    best, cuts = [0.0], [0]
    for end in range(1, len(order) + 1):
        costs = []
        for start in range(end - 1, -1, -1):
            tokens = (end - start) * rounded_width(end - start, lengths[order[start]], multiple)
            if tokens > max_tokens and end - start > 1:
                if (end - start) * lengths[order[start]] > max_tokens:
                    break  # a longer group is longer still
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
    """Known values of a question's candidates in the order of an item's logits; FloatTensor [num_candidates]."""
    return torch.tensor([values[index] for index in order], dtype=torch.float32, device=device)
