"""Packing: sequences of several queries and their candidates, concatenated to one run of tokens.

Token-wise operations run on all at once; only attention needs boundaries. It uses few widths, because every new shape
costs a kernel: a single sequence is not padded but sees, masked, the beginning of the next; short ones are padded
together.
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
from gliclass_rerank.model.segments import CANDIDATES

ROW_MULTIPLE: Final = 16


@dataclass(frozen=True)
class Span:
    """Sequences of one width, which attend to themselves and perhaps to a query.

    Attributes:
        start: First token.
        num_rows: Number of sequences.
        width: Tokens of each in the packing.
        seen: Tokens of each in attention: `width`, plus following ones of a single sequence.
        mask: Additive key mask, FloatTensor [num_rows, 1, 1, seen] of 0 and minus infinity; None without padding.
    """

    start: int
    num_rows: int
    width: int
    seen: int
    mask: Tensor | None

    @property
    def stop(self) -> int:
        """Token after the last one."""
        return self.start + self.num_rows * self.width

    def windows(self, tokens: Tensor) -> Tensor:
        """Read-only attention view of [num_tokens, ...]: [num_rows, seen, ...]."""
        stop = self.start + self.num_rows * self.seen
        return tokens[self.start : stop].view(self.num_rows, self.seen, *tokens.shape[1:])

    def rows(self, tokens: Tensor) -> Tensor:
        """Tokens of the sequences from [num_tokens, ...]: [num_rows, width, ...]."""
        return tokens[self.start : self.stop].view(self.num_rows, self.width, *tokens.shape[1:])


@dataclass(frozen=True)
class Packing:
    """Packed token ids of several queries and their candidates.

    Attributes:
        ids: LongTensor [num_tokens].
        positions: LongTensor [num_tokens].
        segments: LongTensor [num_tokens].
        items: Spans of each query and its candidate groups, in order, without gaps; a few unused tokens follow.
    """

    ids: Tensor
    positions: Tensor
    segments: Tensor
    items: tuple[tuple[Span, tuple[Span, ...]], ...]

    @classmethod
    def of(cls, batches: Sequence[BlockBatch], *, candidate_start: int, dtype: torch.dtype) -> Packing:
        """Pack queries with their candidates, in order.

        Args:
            batches: One query each, at least one.
            candidate_start: Position of each candidate's first token.
            dtype: Type of the masks.

        Returns:
            The packing.
        """
        columns: tuple[list[Tensor], ...] = ([], [], [])
        items, start = [], 0
        for batch in batches:
            spans = []
            for number, rows in enumerate((batch.query, *batch.groups)):
                spans.append(_span(rows, start, dtype))
                start = spans[-1].stop
                first = candidate_start if number else 0
                places = torch.arange(first, first + rows.ids.shape[1], device=rows.ids.device)
                # Padding may lie beyond the last position; nobody reads it.
                places = places.masked_fill(~rows.mask, 0)
                segments = torch.full_like(places, CANDIDATES if number else batch.query_segment)
                for column, part in zip(columns, (rows.ids, places, segments), strict=True):
                    column.append(part.flatten())
            items.append((spans[0], tuple(spans[1:])))
        # Room for the last sequence's view.
        tail = (0, -start % ROW_MULTIPLE + ROW_MULTIPLE)
        ids, positions, segments = (functional.pad(torch.cat(parts), tail) for parts in columns)
        return cls(ids, positions, segments, tuple(items))

    @property
    def num_used(self) -> int:
        """Tokens that belong to a sequence."""
        return self.spans[-1].stop

    @property
    def spans(self) -> tuple[Span, ...]:
        """All spans, in order."""
        return tuple(span for query, groups in self.items for span in (query, *groups))


def packed_chunks(sizes: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Split queries, in order, into the fewest chunks of similar size under `max_tokens`; a longer query is alone."""
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
