"""Packed batches: requests of one attention plan as packed sequences, with what the scoring head reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from gliclass_rerank.model.config import ModelConfig
from gliclass_rerank.model.packed_sequences import (
    Layout,
    PackedSequences,
    bounds_of,
    copied,
    lengths_of,
    padded_rows,
    ranges,
)
from gliclass_rerank.model.pooling import block_tokens_read, query_tokens_read
from gliclass_rerank.model.segments import CANDIDATES, EXAMPLES, TEXT
from gliclass_rerank.types import Blocks, Window


@dataclass(frozen=True, kw_only=True)
class PackedBlocks:
    """Queries with their candidates, for the `shared_query` plan.

    Attributes:
        sequences: Packed sequences.
        query_rows: IntTensor [num_queries, query_len]. Read rows of each query, the last one repeated.
        query_lengths: IntTensor [num_queries]. Number of different `query_rows`.
        query_of: IntTensor [num_candidates]. Number of each candidate's query.
        marker_rows: IntTensor [num_candidates]. Read row of each candidate's marker.
        class_rows: IntTensor [num_candidates]. Read row that stands for a candidate: its marker's, or the next one.
        averaged_rows: IntTensor [num_averaged]. Read rows of all candidates that are averaged; empty for none.
        averaged_starts: IntTensor [num_candidates]. First of each candidate's `averaged_rows`.
        ends_by_query: Read row after the last candidate of each query.
    """

    sequences: PackedSequences
    query_rows: Tensor
    query_lengths: Tensor
    query_of: Tensor
    marker_rows: Tensor
    class_rows: Tensor
    averaged_rows: Tensor
    averaged_starts: Tensor
    ends_by_query: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class PackedWindows:
    """Windows, for the `joint` plan.

    Attributes:
        sequences: Packed sequences.
        token_rows: IntTensor [num_windows, seq_len]. Rows of each window, the last one repeated.
        lengths: IntTensor [num_windows]. Tokens of each window.
        markers: IntTensor [num_windows, max_passages]. Marker positions; 0 in empty slots.
        num_markers: IntTensor [num_windows]. Markers of each window.
        text_start: IntTensor [num_windows]. Position of the first separator.
    """

    sequences: PackedSequences
    token_rows: Tensor
    lengths: Tensor
    markers: Tensor
    num_markers: Tensor
    text_start: Tensor


@dataclass(frozen=True, kw_only=True)
class Packer:
    """Packer of token ids for one network.

    Attributes:
        device: Device of the tensors.
        example_id: Id of the example marker.
        candidate_start: Position of a candidate's first token; None if positions go on after the query's.
        query_reads: Leading tokens of a query whose last states are read; None for all.
        candidate_reads: The same for a candidate.
        embed_marker: A candidate's marker stands for it, else the token after it.
    """

    device: torch.device
    example_id: int
    candidate_start: int | None
    query_reads: int | None
    candidate_reads: int | None
    embed_marker: bool

    @classmethod
    def of(cls, config: ModelConfig, device: torch.device, *, positions_are_absolute: bool, attends: bool) -> Packer:
        """Make the packer of a network.

        Args:
            config: Config of the network.
            device: Device of the tensors.
            positions_are_absolute: Candidates' positions restart.
            attends: In the last layer all tokens attend, read or not.

        Returns:
            The packer.
        """
        return cls(
            device=device,
            example_id=config.example_token_index,
            candidate_start=config.candidate_position_start if positions_are_absolute else None,
            query_reads=None if attends else query_tokens_read(config),
            candidate_reads=None if attends else block_tokens_read(config),
            embed_marker=config.embed_class_token,
        )

    def blocks(self, requests: Sequence[Blocks]) -> PackedBlocks:
        """Pack queries, at least one, with their candidates, at least one each; order is kept."""
        num_candidates = [len(request.candidate_ids) for request in requests]
        queries = [request.query_ids for request in requests]
        sequences = [*queries, *chain.from_iterable(request.candidate_ids for request in requests)]
        lengths, num_queries = lengths_of(sequences), len(queries)
        read = lengths.copy()
        if self.query_reads is not None:
            read[:num_queries].clip(max=self.query_reads, out=read[:num_queries])
        if self.candidate_reads is not None:
            read[num_queries:].clip(max=self.candidate_reads, out=read[num_queries:])
        of_sequences = np.full(len(sequences), CANDIDATES)
        of_sequences[:num_queries] = [EXAMPLES if self.example_id in ids else TEXT for ids in queries]
        layout = Layout(sequences, num_candidates, read, np.repeat(of_sequences, lengths), self.candidate_start)
        bounds, skipped = bounds_of(read), 0 if self.embed_marker else 1
        markers, of_candidates = bounds[num_queries:-1], read[num_queries:]
        averaged = of_candidates - skipped if self.candidate_reads is None else np.zeros_like(of_candidates)
        own = {
            "query_rows": padded_rows(bounds[:num_queries], read[:num_queries]),
            "query_lengths": read[:num_queries],
            "query_of": layout.owners[num_queries:],
            "marker_rows": markers,
            # Without a closing token a blank candidate is its marker alone.
            "class_rows": markers + np.minimum(skipped, of_candidates - 1),
            "averaged_rows": ranges(markers + skipped, averaged),
            "averaged_starts": bounds_of(averaged)[:-1],
        }
        tensors = copied(layout.arrays() | own, self.device)
        ends = bounds[num_queries + np.cumsum(num_candidates)]
        return PackedBlocks(
            sequences=layout.on_device(tensors),
            **{name: tensors[name] for name in own},
            ends_by_query=tuple(ends.tolist()),
        )

    def windows(self, windows: Sequence[Window]) -> PackedWindows:
        """Pack windows, at least one, each with at least one marker; order is kept."""
        sequences = [window.token_ids for window in windows]
        lengths = lengths_of(sequences)
        text_start = np.array([window.text_start for window in windows])
        places = ranges(np.zeros_like(lengths), lengths)
        segments = np.where(places < np.repeat(text_start, lengths), CANDIDATES, TEXT)
        segments[np.repeat([self.example_id in ids for ids in sequences], lengths)] = EXAMPLES
        layout = Layout(sequences, (), lengths, segments, None)
        num_markers = lengths_of([window.markers for window in windows])
        markers = np.zeros((len(windows), num_markers.max()), dtype=np.int64)
        markers[np.arange(markers.shape[1]) < num_markers[:, None]] = [*chain(*(each.markers for each in windows))]
        own = {
            "token_rows": padded_rows(bounds_of(lengths)[:-1], lengths),
            "lengths": lengths,
            "markers": markers,
            "num_markers": num_markers,
            "text_start": text_start,
        }
        tensors = copied(layout.arrays() | own, self.device)
        return PackedWindows(sequences=layout.on_device(tensors), **{name: tensors[name] for name in own})
