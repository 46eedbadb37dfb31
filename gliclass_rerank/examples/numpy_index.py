"""Exact index by one matrix product: the reference for the others, fast enough for tens of thousands of vectors."""

from __future__ import annotations

from typing import Final

import numpy as np

from gliclass_rerank.errors import DataError, shown
from gliclass_rerank.examples.index import (
    FloatArray,
    IntArray,
    Neighbours,
    VectorIndex,
    VectorSource,
    check_added,
    check_k,
    check_vectors,
    checked_rows,
    no_neighbours,
)
from gliclass_rerank.examples.index_file import IndexReader, IndexWriter

# Queries scored at once: 64 MB for a million vectors.
_BLOCK_QUERIES: Final = 16
_MIN_CAPACITY: Final = 64


class NumpyIndex:
    """Exact search over vectors in memory. Removal copies the remaining vectors.

    Args:
        dim: Dimension of the vectors.
        capacity: Initial allocation in vectors; it grows on demand.
    """

    kind: Final = "numpy"
    oversampling: Final = 1
    is_quick_to_build: Final = True

    def __init__(self, dim: int, *, capacity: int = 0) -> None:
        capacity = max(capacity, _MIN_CAPACITY)
        self._dim = dim
        self._num_vectors = 0
        self._last_row = -1
        self._all_rows = np.zeros(capacity, dtype=np.int64)
        self._all_vectors = np.zeros((capacity, dim), dtype=np.float32)

    @property
    def dim(self) -> int:
        """Dimension of the vectors."""
        return self._dim

    @property
    def last_row(self) -> int:
        """Greatest row number ever added, or -1."""
        return self._last_row

    def __len__(self) -> int:
        return self._num_vectors

    def rows(self) -> IntArray:
        """All row numbers, ascending."""
        rows: IntArray = self._all_rows[: self._num_vectors].copy()
        return rows

    def add(self, rows: IntArray, vectors: FloatArray) -> None:
        """Add vectors."""
        check_added(rows, vectors, dim=self._dim, last_row=self._last_row)
        if not len(rows):
            return
        start, end = self._num_vectors, self._num_vectors + len(rows)
        if end > len(self._all_rows):
            self._grow(max(end, 2 * len(self._all_rows)))
        self._all_rows[start:end] = rows
        self._all_vectors[start:end] = vectors
        self._num_vectors, self._last_row = end, int(rows[-1])

    def _grow(self, capacity: int) -> None:
        grown_rows = np.zeros(capacity, dtype=np.int64)
        grown_vectors = np.zeros((capacity, self._dim), dtype=np.float32)
        grown_rows[: self._num_vectors] = self._all_rows[: self._num_vectors]
        grown_vectors[: self._num_vectors] = self._all_vectors[: self._num_vectors]
        self._all_rows, self._all_vectors = grown_rows, grown_vectors

    def remove(self, rows: IntArray) -> int:
        """Remove rows, and count them."""
        before = self._num_vectors
        stays = ~np.isin(self._all_rows[:before], rows)
        after = int(stays.sum())
        if after < before:
            self._all_rows = self._all_rows[:before][stays]
            self._all_vectors = self._all_vectors[:before][stays]
            self._num_vectors = after
        return before - after

    def search(self, vectors: FloatArray, k: int) -> list[Neighbours]:
        """Find `k` neighbours per query, ties by row number."""
        check_vectors(vectors, dim=self._dim)
        check_k(k)
        found: list[Neighbours] = []
        if not self._num_vectors:
            return [no_neighbours() for _ in vectors]
        held = self._all_vectors[: self._num_vectors]
        for start in range(0, len(vectors), _BLOCK_QUERIES):
            found += [self._best(scores, k) for scores in vectors[start : start + _BLOCK_QUERIES] @ held.T]
        return found

    def _best(self, scores: FloatArray, k: int) -> Neighbours:
        places = np.arange(len(scores))
        if k < len(scores):
            # Ties with the last one are kept until the order is known.
            worst = np.partition(scores, len(scores) - k)[len(scores) - k]
            places = np.flatnonzero(scores >= worst)
        best = places[np.lexsort((places, -scores[places]))][:k]
        return Neighbours(scores[best], self._all_rows[best])

    def save(self, writer: IndexWriter) -> None:
        """Write the index."""
        writer.array("rows", self._all_rows[: self._num_vectors])
        writer.array("vectors", self._all_vectors[: self._num_vectors])
        writer.array("last_row", np.array(self._last_row))


class NumpyBuilder:
    """Builder of numpy indexes."""

    def build(self, source: VectorSource) -> NumpyIndex:
        """Build an index."""
        index = NumpyIndex(source.dim, capacity=len(source))
        for rows, vectors in source.chunks():
            index.add(rows, vectors)
        return index

    def load(self, reader: IndexReader) -> NumpyIndex:
        """Read an index; a `DataError` if it is invalid."""
        kind = reader.header.get("kind")
        if kind != NumpyIndex.kind:
            raise DataError(f"the index is of the kind {shown(kind)}, not {shown(NumpyIndex.kind)}")
        rows, vectors = checked_rows(reader.array("rows", np.int64)), reader.array("vectors", np.float32, 2)
        index = NumpyIndex(vectors.shape[1], capacity=len(rows))
        index.add(rows, vectors)
        index._last_row = int(reader.array("last_row", np.int64, 0))
        return index

    def suits(self, index: VectorIndex) -> bool:
        """Test for a numpy index."""
        return index.kind == NumpyIndex.kind
