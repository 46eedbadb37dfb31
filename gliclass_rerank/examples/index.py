"""What the store asks of an index over vectors: a contract, and the checks that every index makes.

An index is a cache. The records are the truth (`records.py`), and whatever an index lost is put in again from them. So
an index knows row numbers and vectors only, and it may approximate: the store computes the similarity of what it finds
again, from the records' own vectors.
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
    """What a query found.

    Attributes:
        scores: FloatArray [num_found]. Inner products, highest first; approximate if the index compresses vectors.
        rows: IntArray [num_found]. Their row numbers, each once and none of them -1.
    """

    scores: FloatArray
    rows: IntArray


class VectorSource(Protocol):
    """Vectors an index is built from."""

    @property
    def dim(self) -> int:
        """Numbers in a vector."""
        ...

    def __len__(self) -> int: ...

    def chunks(self) -> Iterator[tuple[IntArray, FloatArray]]:
        """Read all vectors.

        Returns:
            Row numbers, ascending over all chunks, and FloatArray [chunk, dim].
        """
        ...

    def sample(self, count: int) -> FloatArray:
        """Read a random sample, the same one for the same vectors.

        Args:
            count: How many; all there are if that is less.

        Returns:
            FloatArray [count, dim].
        """
        ...


class VectorIndex(Protocol):
    """Finds the vectors with the highest inner products.

    Searches may run at once in several threads; nothing else may run beside anything.
    """

    @property
    def dim(self) -> int:
        """Numbers in a vector."""
        ...

    @property
    def kind(self) -> str:
        """What it is, such as `hnsw`."""
        ...

    @property
    def oversampling(self) -> int:
        """How many times as many neighbours to ask for, so that those wanted are among them; 1 if it is exact."""
        ...

    @property
    def is_quick_to_build(self) -> bool:
        """Whether building it takes no longer than reading it from a file would."""
        ...

    def __len__(self) -> int: ...

    def rows(self) -> IntArray:
        """All row numbers, ascending."""
        ...

    def add(self, rows: IntArray, vectors: FloatArray) -> None:
        """Put vectors in; all of them or, if an argument is refused, none.

        Args:
            rows: IntArray [num_added]. Row numbers: ascending, and greater than all that were ever added.
            vectors: FloatArray [num_added, dim].

        Raises:
            InputError: Row numbers do not ascend, or vectors have another shape.
        """
        ...

    def remove(self, rows: IntArray) -> int:
        """Take vectors out.

        Args:
            rows: IntArray [num_removed]. Row numbers; those that are not there are passed over.

        Returns:
            How many were there.
        """
        ...

    def search(self, vectors: FloatArray, k: int) -> list[Neighbours]:
        """Find neighbours.

        Args:
            vectors: FloatArray [num_queries, dim].
            k: How many to find for each query. An exact index finds that many, or all there are; an approximate one
                may find fewer.

        Returns:
            One result a query, ordered by score; ties by row number if the index is exact.

        Raises:
            InputError: Vectors of another shape, or `k` below 1.
        """
        ...

    def save(self, writer: IndexWriter) -> None:
        """Write everything that `IndexBuilder.load` needs.

        Args:
            writer: Where to.
        """
        ...


class IndexBuilder(Protocol):
    """Makes indexes of one backend."""

    def build(self, source: VectorSource) -> VectorIndex:
        """Build an index.

        Args:
            source: What it shall hold.

        Returns:
            The index.

        Raises:
            MissingDependencyError: The backend's package is not installed.
        """
        ...

    def load(self, reader: IndexReader) -> VectorIndex:
        """Read an index back.

        Args:
            reader: What `VectorIndex.save` wrote; its checksums were compared already.

        Returns:
            The index.

        Raises:
            DataError: It holds no index of this backend.
            MissingDependencyError: The backend's package is not installed.
        """
        ...

    def suits(self, index: VectorIndex) -> bool:
        """Whether an index is still what `build` would make now, or close enough.

        Args:
            index: An index that this builder made.

        Returns:
            False if it should be built again: it has outgrown its kind, or too much of it is dead.
        """
        ...


def check_added(rows: IntArray, vectors: FloatArray, *, dim: int, last_row: int) -> None:
    """Refuse what `VectorIndex.add` refuses.

    Args:
        rows: Row numbers.
        vectors: Their vectors.
        dim: Numbers in a vector of this index.
        last_row: The greatest row number ever added, or -1.

    Raises:
        InputError: See `VectorIndex.add`.
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
    """Refuse vectors of another shape; FAISS would read beyond their end or raise a bare assertion.

    Args:
        vectors: FloatArray [num_vectors, dim].
        dim: Numbers in a vector.

    Raises:
        InputError: Another shape.
    """
    if vectors.ndim != 2 or vectors.shape[1] != dim:
        raise InputError(f"vectors must have the shape [num_vectors, {dim}], got {list(vectors.shape)}")


def checked_rows(rows: IntArray) -> IntArray:
    """Row numbers of a file.

    Args:
        rows: IntArray [num_held].

    Returns:
        The same.

    Raises:
        DataError: They do not ascend from 0 or more.
    """
    if len(rows) and (rows[0] < 0 or not np.all(rows[1:] > rows[:-1])):
        raise DataError("the row numbers of an index must ascend")
    return rows


def check_k(k: int) -> None:
    """Refuse a number of neighbours below 1."""
    if k < 1:
        raise InputError(f"`k` must be at least 1, got {k}")


def no_neighbours() -> Neighbours:
    """What a search in an empty index finds."""
    return Neighbours(np.zeros(0, dtype=np.float32), np.zeros(0, dtype=np.int64))
