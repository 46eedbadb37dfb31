"""Index interface of the store, and argument checks shared by all indexes.

An index is a cache of the records, which are authoritative. It knows row numbers and vectors only and may approximate:
the store recomputes similarities from the records.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from gliclass_rerank.errors import DataError, InputError
from gliclass_rerank.examples.index_file import IndexReader, IndexWriter

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]


class Neighbours(NamedTuple):
    """Search result of one query.

    Attributes:
        scores: FloatArray [num_found]. Inner products, highest first; approximate if the index compresses vectors.
        rows: IntArray [num_found]. Distinct row numbers, without -1.
    """

    scores: FloatArray
    rows: IntArray


class VectorSource(Protocol):
    """Source of an index's vectors."""

    @property
    def dim(self) -> int:
        """Dimension of the vectors."""
        ...

    def __len__(self) -> int: ...

    def chunks(self) -> Iterator[tuple[IntArray, FloatArray]]:
        """Read all vectors: ascending row numbers and FloatArray [chunk, dim]."""
        ...

    def sample(self, count: int) -> FloatArray:
        """Read a deterministic random sample, FloatArray [count, dim], or all vectors if there are fewer."""
        ...


class VectorIndex(Protocol):
    """Maximum inner product index. Searches may run concurrently; nothing else may."""

    @property
    def dim(self) -> int:
        """Dimension of the vectors."""
        ...

    @property
    def kind(self) -> str:
        """Kind of index, such as `hnsw`."""
        ...

    @property
    def oversampling(self) -> int:
        """Factor on the number of neighbours to request, so that the wanted ones are among them; 1 if exact."""
        ...

    @property
    def is_quick_to_build(self) -> bool:
        """True if building is no slower than reading."""
        ...

    @property
    def last_row(self) -> int:
        """Greatest row number ever added, or -1."""
        ...

    def __len__(self) -> int: ...

    def rows(self) -> IntArray:
        """All row numbers, ascending."""
        ...

    def add(self, rows: IntArray, vectors: FloatArray) -> None:
        """Add all vectors, or none if an argument is refused.

        Args:
            rows: IntArray [num_added]. Row numbers: ascending, and greater than all ever added.
            vectors: FloatArray [num_added, dim].

        Raises:
            InputError: Row numbers do not ascend, or vectors have another shape.
        """
        ...

    def remove(self, rows: IntArray) -> int:
        """Remove rows, ignoring unknown ones, and count those removed."""
        ...

    def search(self, vectors: FloatArray, k: int) -> list[Neighbours]:
        """Find neighbours.

        Args:
            vectors: FloatArray [num_queries, dim].
            k: Neighbours per query; an approximate index may find fewer.

        Returns:
            One result per query, by score; ties by row number if exact.

        Raises:
            InputError: Vectors of another shape, or `k` below 1.
        """
        ...

    def save(self, writer: IndexWriter) -> None:
        """Write everything that `IndexBuilder.load` needs."""
        ...


class IndexBuilder(Protocol):
    """Builder of one backend's indexes; its methods raise `MissingDependencyError` without the backend's package."""

    def build(self, source: VectorSource) -> VectorIndex:
        """Build an index."""
        ...

    def load(self, reader: IndexReader) -> VectorIndex:
        """Read an index with verified checksums.

        Args:
            reader: Output of `VectorIndex.save`.

        Returns:
            The index.

        Raises:
            DataError: It is not an index of this backend.
        """
        ...

    def suits(self, index: VectorIndex) -> bool:
        """Test if an index is close to what `build` would make: right kind, few removed vectors."""
        ...


def check_added(rows: IntArray, vectors: FloatArray, *, dim: int, last_row: int) -> None:
    """Check the arguments of `VectorIndex.add`.

    Args:
        rows: Row numbers.
        vectors: Vectors of the rows.
        dim: Dimension of the index.
        last_row: Greatest row number ever added, or -1.

    Raises:
        InputError: Row numbers do not ascend, or vectors have another shape.
    """
    check_vectors(vectors, dim=dim)
    if rows.shape != (len(vectors),):
        raise InputError(f"every vector needs one row number, got {rows.shape} for {len(vectors)} vectors")
    if rows.dtype != np.int64:
        raise InputError(f"row numbers must be int64, got {rows.dtype}")
    ahead = np.concatenate([np.array([last_row], dtype=np.int64), rows])
    falling = np.flatnonzero(ahead[1:] <= ahead[:-1])
    if len(falling):
        at = int(falling[0])
        raise InputError(f"row numbers must ascend and never come twice, got {ahead[at + 1]} after {ahead[at]}")


def check_vectors(vectors: FloatArray, *, dim: int) -> None:
    """Check for FloatArray [num_vectors, dim], else raise `InputError`; FAISS would read out of bounds."""
    if vectors.ndim != 2 or vectors.shape[1] != dim:
        raise InputError(f"vectors must have the shape [num_vectors, {dim}], got {list(vectors.shape)}")


def checked_rows(rows: IntArray) -> IntArray:
    """Check that a file's row numbers ascend from 0 or more, else raise `DataError`."""
    if len(rows) and (rows[0] < 0 or not np.all(rows[1:] > rows[:-1])):
        raise DataError("the row numbers of an index must ascend")
    return rows


def check_k(k: int) -> None:
    """Check that a number of neighbours is at least 1."""
    if k < 1:
        raise InputError(f"`k` must be at least 1, got {k}")


def no_neighbours() -> Neighbours:
    """Search result of an empty index."""
    return Neighbours(np.zeros(0, dtype=np.float32), np.zeros(0, dtype=np.int64))
