"""Similarity search in a pool of texts: vectors in a file, an index over them, exact similarities.

Vectors and slow-to-build indexes are kept on disk for resumed runs. Similarities are recomputed from the vectors, so
they do not depend on the index.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np

from gliclass_rerank._imports import require
from gliclass_rerank.errors import DataError
from gliclass_rerank.examples.backends import Backend, builder_of
from gliclass_rerank.examples.encoders import StoreEncoder, encode_checked
from gliclass_rerank.examples.faiss_index import FLAT_VECTORS
from gliclass_rerank.examples.index import FloatArray, IndexBuilder, IntArray, VectorIndex, VectorSource
from gliclass_rerank.examples.index_file import read_index_file, write_index_file
from gliclass_rerank.examples.search import similarities
from gliclass_rerank.learn.data.progress import Progress, silent

# Texts encoded together: always the same ones, because vectors depend slightly on the batch.
_SHARD_TEXTS: Final = 256
_CHUNK_ROWS: Final = 4096
_NUMBER_BYTES: Final = 4
_PROBE: Final = "example"

logger = logging.getLogger(__name__)


class VectorFile:
    """Resumable file of a pool's vectors, a `VectorSource`.

    Args:
        path: Vector file of this pool and encoder.
        num_texts: Number of texts.
        read: Function from first and past-the-last row to texts.
        encoder: Text encoder.
        progress: Progress of texts encoded.

    Raises:
        BackendError: The encoder failed.
    """

    def __init__(
        self,
        path: Path,
        num_texts: int,
        read: Callable[[int, int], list[str]],
        encoder: StoreEncoder,
        *,
        progress: Progress = silent,
    ) -> None:
        self._num_texts = num_texts
        self._dim: Final[int] = encode_checked(encoder, [_PROBE]).shape[1]
        row_bytes = self._dim * _NUMBER_BYTES
        with path.open("ab") as handle:
            num_done = handle.tell() // row_bytes
            if num_done < num_texts:
                num_done -= num_done % _SHARD_TEXTS
            handle.truncate(num_done * row_bytes)
            with progress("texts encoded", num_texts, num_done) as advance:
                for start in range(num_done, num_texts, _SHARD_TEXTS):
                    texts = read(start, start + _SHARD_TEXTS)
                    handle.write(encode_checked(encoder, texts, dim=self._dim).tobytes())
                    handle.flush()
                    advance(len(texts))
        self._vectors = np.memmap(path, dtype=np.float32, mode="r", shape=(num_texts, self._dim))

    @property
    def dim(self) -> int:
        """Dimension of the vectors."""
        return self._dim

    def __len__(self) -> int:
        return self._num_texts

    def __getitem__(self, rows: IntArray) -> FloatArray:
        """Vectors of some rows, FloatArray [num_rows, dim]."""
        return np.asarray(self._vectors[rows])

    def chunks(self) -> Iterator[tuple[IntArray, FloatArray]]:
        """Read all vectors: ascending row numbers and FloatArray [chunk, dim]."""
        for start in range(0, len(self), _CHUNK_ROWS):
            rows = np.arange(start, min(start + _CHUNK_ROWS, len(self)), dtype=np.int64)
            yield rows, self[rows]

    def sample(self, count: int) -> FloatArray:
        """Read a deterministic random sample, FloatArray [count, dim]."""
        chosen = np.random.default_rng(0).permutation(len(self))[:count]
        return self[np.sort(chosen)]


class NeighbourSearch:
    """Search for similar texts.

    Args:
        vectors: Vectors of the pool.
        backend: Index backend, as for an `ExampleStore`.
        path: File for a slow-to-build index of these vectors.
        progress: Progress of vectors indexed.

    Raises:
        ConfigError: Unknown backend.
        MissingDependencyError: Its package is not installed.
    """

    def __init__(self, vectors: VectorFile, backend: Backend, *, path: Path, progress: Progress = silent) -> None:
        self._vectors = vectors
        builder = builder_of(backend)
        index = _kept(builder, path, vectors) if path.is_file() else None
        if index is None:
            index = _built(builder, vectors, progress, with_faiss=uses_faiss(backend, len(vectors)))
            if not index.is_quick_to_build:
                with write_index_file(path, {"kind": index.kind, "dim": index.dim}) as writer:
                    index.save(writer)
        self._index = index

    def find(self, queries: FloatArray, k: int) -> list[list[tuple[int, float]]]:
        """Find the most similar texts.

        Args:
            queries: FloatArray [num_queries, dim]. Of unit length.
            k: Number of results per query; an approximate index may miss some.

        Returns:
            Rows with cosines per query, most similar first, ties by row.
        """
        found = []
        for query, (_, rows) in zip(queries, self._index.search(queries, k * self._index.oversampling), strict=True):
            values = similarities(self._vectors[rows], query)
            best = np.lexsort((rows, -values))[:k]
            found.append([(int(rows[place]), float(values[place])) for place in best])
        return found


def uses_faiss(backend: Backend, num_vectors: int) -> bool:
    """Test if a backend uses FAISS for this number of vectors."""
    if backend == "auto":
        return num_vectors > FLAT_VECTORS and importlib.util.find_spec("faiss") is not None
    return backend != "numpy"


def _kept(builder: IndexBuilder, path: Path, vectors: VectorFile) -> VectorIndex | None:
    try:
        with read_index_file(path) as reader:
            index = builder.load(reader)
    except DataError as error:
        logger.info("an index is built anew: %s", error)
        return None
    return index if index.dim == vectors.dim and len(index) == len(vectors) else None


def _built(builder: IndexBuilder, vectors: VectorFile, progress: Progress, *, with_faiss: bool) -> VectorIndex:
    if not with_faiss:
        return builder.build(vectors)
    with progress("vectors indexed", len(vectors)) as advance, _one_faiss_thread():
        return builder.build(_Counted(vectors, advance))


class _Counted:
    """Vector source with progress."""

    def __init__(self, source: VectorSource, advance: Callable[[int], object]) -> None:
        self._source, self._advance = source, advance
        self.dim = source.dim

    def __len__(self) -> int:
        return len(self._source)

    def chunks(self) -> Iterator[tuple[IntArray, FloatArray]]:
        for rows, vectors in self._source.chunks():
            yield rows, vectors
            self._advance(len(rows))

    def sample(self, count: int) -> FloatArray:
        return self._source.sample(count)


@contextmanager
def _one_faiss_thread() -> Iterator[None]:
    """Single-threaded FAISS: several threads may build different graphs; a resumed run needs the same neighbours."""
    faiss = require("faiss", extra="rac")
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
