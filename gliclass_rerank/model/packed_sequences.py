"""Packed sequences: token ids of many sequences behind each other, without padding, and who sees whom.

Queries come first, then the candidates of all of them, query by query. Everything that a forward pass reads from the
host is one buffer of 32-bit integers, which takes one copy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gliclass_rerank.types import TokenIds

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Rows:
    """Attending tokens: all of them, or in the last layer those that the head reads.

    Attributes:
        index: IntTensor [num_rows]. Their places among all tokens; None for all.
        bounds: IntTensor [num_sequences + 1]. First row of each sequence, and the number of rows.
        longest: Most rows of a sequence.
        first_candidate: First row that belongs to a candidate.
        by_query: IntTensor [num_queries + 1]. Like `bounds`, for all candidates of a query together, counted from
            `first_candidate`.
        longest_by_query: Most rows of a query's candidates together.
    """

    index: Tensor | None
    bounds: Tensor
    longest: int
    first_candidate: int
    by_query: Tensor
    longest_by_query: int


@dataclass(frozen=True)
class PackedSequences:
    """Packed token ids, and who sees whom.

    Attributes:
        ids: IntTensor [num_tokens].
        positions: IntTensor [num_tokens].
        segments: IntTensor [num_tokens]. Segment ids.
        all: All tokens.
        read: Tokens whose last states are read.
        owners: IntTensor [num_sequences]. For a candidate its query's sequence, else its own.
        keys: IntTensor [num_keys]. Tokens that each sequence sees: its query's, if it is a candidate, then its own;
            empty for windows.
        key_bounds: IntTensor [num_sequences + 1]. First key of each sequence, and the number of keys.
        longest_keys: Most keys of a sequence.
        num_queries: Number of queries; 0 for windows.
        longest_query: Tokens of the longest query; 0 for windows.
    """

    ids: Tensor
    positions: Tensor
    segments: Tensor
    all: Rows
    read: Rows
    owners: Tensor
    keys: Tensor
    key_bounds: Tensor
    longest_keys: int
    num_queries: int
    longest_query: int

    @property
    def num_tokens(self) -> int:
        """Number of tokens, none of which is padding."""
        return self.ids.shape[0]


@dataclass(frozen=True)
class Layout:
    """Packed sequences on the host.

    Attributes:
        sequences: Token ids; queries first.
        num_candidates: Candidates of each query; empty for windows.
        read: Leading tokens of each sequence whose last states are read.
        segments: Segment id of each token.
        candidate_start: Position of a candidate's first token; None if positions go on after the query's.
    """

    sequences: Sequence[TokenIds]
    num_candidates: Sequence[int]
    read: Ints
    segments: Ints
    candidate_start: int | None

    def arrays(self) -> dict[str, Ints]:
        """Arrays for the device, by name."""
        lengths, owners = lengths_of(self.sequences), self.owners
        num_queries, bounds = len(self.num_candidates), bounds_of(lengths)
        is_candidate = np.arange(len(lengths)) >= num_queries if num_queries else np.zeros(len(lengths), dtype=bool)
        shared = np.where(is_candidate, lengths[owners], 0)
        before = shared if self.candidate_start is None else np.where(is_candidate, self.candidate_start, 0)
        starts = np.stack([bounds[owners], bounds[:-1]], axis=1)
        arrays = {
            "ids": np.fromiter(chain.from_iterable(self.sequences), dtype=np.int64, count=bounds[-1]),
            "positions": ranges(before, lengths),
            "segments": self.segments,
            "owners": owners,
            "keys": ranges(starts.ravel(), np.stack([shared, lengths], axis=1).ravel()) if num_queries else lengths[:0],
            "key_bounds": bounds_of(shared + lengths),
            "bounds": bounds,
            "by_query": self._by_query(bounds),
        }
        if self._reads_all:
            return arrays
        read_bounds = bounds_of(self.read)
        return arrays | {
            "read": ranges(bounds[:-1], self.read),
            "read_bounds": read_bounds,
            "read_by_query": self._by_query(read_bounds),
        }

    @property
    def owners(self) -> Ints:
        """For a candidate its query's sequence, else its own."""
        num_queries = len(self.num_candidates)
        if not num_queries:
            return np.arange(len(self.sequences))
        return np.concatenate([np.arange(num_queries), np.repeat(np.arange(num_queries), self.num_candidates)])

    def on_device(self, tensors: Mapping[str, Tensor]) -> PackedSequences:
        """Packed sequences of this layout's `arrays` on a device."""
        lengths, num_queries = lengths_of(self.sequences), len(self.num_candidates)
        longest_query = int(lengths[:num_queries].max(initial=0))
        candidates = lengths[num_queries:].max(initial=0)
        every = self._rows(None, tensors["bounds"], tensors["by_query"], lengths)
        read = every
        if not self._reads_all:
            read = self._rows(tensors["read"], tensors["read_bounds"], tensors["read_by_query"], self.read)
        return PackedSequences(
            **{name: tensors[name] for name in ("ids", "positions", "segments", "owners", "keys", "key_bounds")},
            all=every,
            read=read,
            longest_keys=longest_query + int(candidates),
            num_queries=num_queries,
            longest_query=longest_query,
        )

    @property
    def _reads_all(self) -> bool:
        return bool((self.read == lengths_of(self.sequences)).all())

    def _by_query(self, bounds: Ints) -> Ints:
        """Bounds of the candidates of each query together, from bounds of all sequences."""
        num_queries = len(self.num_candidates)
        last = num_queries + bounds_of(np.asarray(self.num_candidates, dtype=np.int64))
        together: Ints = bounds[last] - bounds[num_queries]
        return together

    def _rows(self, index: Tensor | None, bounds: Tensor, by_query: Tensor, lengths: Ints) -> Rows:
        num_queries = len(self.num_candidates)
        together = np.diff(self._by_query(bounds_of(lengths)))
        return Rows(
            index=index,
            bounds=bounds,
            longest=int(lengths.max()),
            first_candidate=int(lengths[:num_queries].sum()),
            by_query=by_query,
            longest_by_query=int(together.max(initial=0)),
        )


def lengths_of(sequences: Sequence[Sequence[int]]) -> Ints:
    """Number of items of each sequence."""
    return np.fromiter(map(len, sequences), dtype=np.int64, count=len(sequences))


def bounds_of(lengths: Ints) -> Ints:
    """First item of each sequence in a concatenation, and the number of all: one more than lengths."""
    return np.concatenate([[0], np.cumsum(lengths)])


def ranges(starts: Ints, lengths: Ints) -> Ints:
    """Concatenate ranges of consecutive integers, by their starts and lengths."""
    ends = np.cumsum(lengths)
    found: Ints = np.arange(lengths.sum()) + np.repeat(starts - (ends - lengths), lengths)
    return found


def padded_rows(starts: Ints, lengths: Ints) -> Ints:
    """Rows of each sequence, the last one repeated up to the longest: [num_sequences, longest]."""
    places = np.minimum(np.arange(lengths.max(initial=1)), lengths[:, None] - 1)
    rows: Ints = starts[:, None] + places
    return rows


def copied(arrays: Mapping[str, Ints], device: torch.device) -> dict[str, Tensor]:
    """Copy arrays to a device together, as IntTensors of their shapes.

    Args:
        arrays: Values below 2^31.
        device: The copy to a GPU is from pinned memory, and nobody waits for it.

    Returns:
        Views of one buffer.
    """
    num_items = sum(array.size for array in arrays.values())
    is_cuda = device.type == "cuda"
    host = torch.empty(num_items, dtype=torch.int32, pin_memory=is_cuda)
    np.concatenate([array.ravel() for array in arrays.values()], out=host.numpy(), casting="same_kind")
    parts = torch.split(host.to(device, non_blocking=is_cuda), [array.size for array in arrays.values()])
    return {name: part.view(array.shape) for (name, array), part in zip(arrays.items(), parts, strict=True)}
