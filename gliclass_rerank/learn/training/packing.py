"""Sequences of several queries and their candidates after each other, as one long run of tokens.

Whatever works token by token (embeddings, matrices, norms) then works on all of them at once; only attention has to
know where a sequence begins. It sees few widths, because every new shape costs a kernel to be made: a sequence alone
is not padded for that, but seen with the beginning of the next one, masked. Short ones are padded and go together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from gliclass_rerank.model.batch import BlockBatch, TokenRows

ROW_MULTIPLE: Final = 16


@dataclass(frozen=True)
class Span:
    """Sequences of one width in a packing, which attend to themselves and perhaps to a query.

    Attributes:
        start: Their first token.
        num_rows: How many sequences.
        width: Tokens of each in the packing.
        seen: Tokens of each that attention works on: `width` and, of a single sequence, what follows it.
        mask: What is added to the scores of these as keys, FloatTensor [num_rows, 1, 1, seen] of 0 and minus infinity;
            None where all are real.
    """

    start: int
    num_rows: int
    width: int
    seen: int
    mask: Tensor | None

    @property
    def stop(self) -> int:
        """The token after the last one."""
        return self.start + self.num_rows * self.width

    def windows(self, tokens: Tensor) -> Tensor:
        """What attention sees of [num_tokens, ...]: [num_rows, seen, ...], for reading only."""
        stop = self.start + self.num_rows * self.seen
        return tokens[self.start : stop].view(self.num_rows, self.seen, *tokens.shape[1:])

    def rows(self, tokens: Tensor) -> Tensor:
        """Their tokens out of [num_tokens, ...]: [num_rows, width, ...]."""
        return tokens[self.start : self.stop].view(self.num_rows, self.width, *tokens.shape[1:])


@dataclass(frozen=True)
class Packing:
    """Token ids of several queries and their candidates.

    Attributes:
        ids: LongTensor [num_tokens].
        positions: LongTensor [num_tokens].
        items: For each query the place of its own tokens and of its groups of candidates; all in order, without gaps.
            A few tokens follow that belong to nobody.
    """

    ids: Tensor
    positions: Tensor
    items: tuple[tuple[Span, tuple[Span, ...]], ...]

    @classmethod
    def of(cls, batches: Sequence[BlockBatch], *, candidate_start: int, dtype: torch.dtype) -> Packing:
        """Pack queries with their candidates.

        Args:
            batches: A query each, at least one.
            candidate_start: Position of each candidate's first token.
            dtype: Of the masks.

        Returns:
            The packing, queries and groups in the given order.
        """
        ids, positions, items, start = [], [], [], 0
        for batch in batches:
            spans = []
            for number, rows in enumerate((batch.query, *batch.groups)):
                spans.append(_span(rows, start, dtype))
                start = spans[-1].stop
                first = candidate_start if number else 0
                places = torch.arange(first, first + rows.ids.shape[1], device=rows.ids.device)
                # Padding may lie beyond the last position there is; nobody reads it.
                positions.append(places.masked_fill(~rows.mask, 0).flatten())
                ids.append(rows.ids.flatten())
            items.append((spans[0], tuple(spans[1:])))
        # Room for what the last sequence sees.
        tail = (0, -start % ROW_MULTIPLE + ROW_MULTIPLE)
        return cls(functional.pad(torch.cat(ids), tail), functional.pad(torch.cat(positions), tail), tuple(items))

    @property
    def num_used(self) -> int:
        """Tokens that belong to a sequence."""
        return self.spans[-1].stop

    @property
    def spans(self) -> tuple[Span, ...]:
        """All of them, in order."""
        return tuple(span for query, groups in self.items for span in (query, *groups))


def packed_chunks(sizes: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Which queries go through the network together.

    Args:
        sizes: Tokens of each query with its candidates.
        max_tokens: Of a chunk, unless it is a single query.

    Returns:
        Their positions, in order, in as few chunks as the limit asks for, of similar size.
    """
    share = sum(sizes) / max(1, math.ceil(sum(sizes) / max_tokens))
    chunks: list[list[int]] = []
    filled = 0
    for index, size in enumerate(sizes):
        if not chunks or filled + size > max_tokens or filled + size / 2 > share:
            chunks.append([])
            filled = 0
        chunks[-1].append(index)
        filled += size
    return chunks


def _span(rows: TokenRows, start: int, dtype: torch.dtype) -> Span:
    num_rows, width = rows.ids.shape
    seen = width + (-width % ROW_MULTIPLE if num_rows == 1 else 0)
    mask = None
    if rows.is_padded or seen > width:
        mask = torch.full((num_rows, 1, 1, seen), -math.inf, dtype=dtype, device=rows.ids.device)
        mask[..., :width].masked_fill_(rows.mask[:, None, None], 0)
    return Span(start, num_rows, width, seen, mask)
