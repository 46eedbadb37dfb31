"""FAISS indexes: exact, a graph, or compressed lists, chosen by the number of vectors.

| kind | chosen for | what it is |
|---|---|---|
| `flat` | up to 20,000 vectors | exact; a few milliseconds a search, nothing to build |
| `hnsw` | up to 200,000 | a graph over full vectors; quick to search, slow to build, as much memory as the vectors |
| `ivf_pq` | more | vectors in lists by their nearest centroid, a byte for every eight numbers; quick to build |

A kind is kept until it holds twice what it is chosen for, so that a store near a border is not built again and again.

FAISS' own defaults are not relied upon where they would bite: the metric is always named (HNSW defaults to L2), results
of -1 (nothing more found) are cut off, and removed vectors are only marked and hidden from searches by a selector,
because a graph cannot lose a node; when a quarter is dead the index asks to be built again.
"""

from __future__ import annotations

import math
from typing import Any, Final, Literal, get_args

import numpy as np

from gliclass_rerank._imports import require
from gliclass_rerank.errors import ConfigError, DataError, cause, listed, shown
from gliclass_rerank.examples.faiss_stream import CheckedStream, Expected
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

FaissKind = Literal["flat", "hnsw", "ivf_pq"]

KINDS: Final[tuple[FaissKind, ...]] = get_args(FaissKind)
FLAT_VECTORS: Final = 20_000
HNSW_VECTORS: Final = 200_000

# Links of a node, and candidates while the graph is built: more is slower to build and finds more.
_HNSW_LINKS: Final = 32
_HNSW_BUILD_WIDTH: Final = 80
_HNSW_SEARCH_WIDTH: Final = 128
# A codebook has 256 entries, and FAISS wants 39 vectors to train each.
_PQ_BITS: Final = 8
_TRAINING_PER_CENTROID: Final = 39
_TRAINING_ROUNDS: Final = 10
MIN_PQ_VECTORS: Final = _TRAINING_PER_CENTROID * 2**_PQ_BITS
# FAISS trains codebooks for fewer than eight numbers ten times as long.
_NUMBERS_PER_BYTE: Final = 8
# One list in so many is read by a search, and at least the smaller number of them.
_LISTS_PER_PROBE, _MIN_PROBES = 32, 32
# Lists were made for the vectors there were; beyond this factor they are too long.
_MAX_GROWTH: Final = 4
_OVERSAMPLING: Final = {"flat": 1, "hnsw": 1, "ivf_pq": 64}
# FAISS reads no more.
_MAX_DIM: Final = 2**20
# Dead vectors cost memory and time; below this number that is nothing.
_MIN_DEAD: Final = 1000


class FaissIndex:
    """A FAISS index that knows row numbers and forgets what was removed, see `VectorIndex`.

    Args:
        kind: What it is.
        faiss_index: An index by inner product, whose n-th vector has the n-th row number. It is owned by this object.
        rows: IntArray [num_held]. Row numbers, ascending, the removed ones included.
        alive: BoolArray [num_held]. False marks a removed vector.
        num_trained: Vectors there were when its lists were made.

    Raises:
        DataError: The parts do not fit each other, or the metric is another one.
    """

    def __init__(
        self, kind: FaissKind, faiss_index: Any, *, rows: IntArray, alive: np.ndarray[Any, Any], num_trained: int
    ) -> None:  # Any: faiss is optional and has no annotations
        self._faiss = require("faiss", extra="rac")
        if faiss_index.metric_type != self._faiss.METRIC_INNER_PRODUCT:
            raise DataError(f"the index must go by inner product, its metric is {faiss_index.metric_type}")
        if not faiss_index.ntotal == len(rows) == len(alive):
            raise DataError(
                f"an index of {faiss_index.ntotal} vectors cannot have {len(rows)} row numbers and {len(alive)} marks"
            )
        self._kind: FaissKind = kind
        self._index = faiss_index
        self._rows = rows
        self._alive = alive
        self._num_dead = int(len(alive) - alive.sum())
        self.num_trained = num_trained

    @classmethod
    def build(cls, kind: FaissKind, source: VectorSource) -> FaissIndex:
        """Build an index of a kind; one of compressed lists is flat if there are too few vectors to train it.

        Args:
            kind: What to build.
            source: What it shall hold.

        Returns:
            The index.

        Raises:
            MissingDependencyError: `faiss` is not installed.
        """
        if kind == "ivf_pq" and len(source) < MIN_PQ_VECTORS:
            kind = "flat"
        built = cls(kind, _new_index(kind, source), rows=_no_rows(), alive=_no_marks(), num_trained=len(source))
        for rows, vectors in source.chunks():
            built.add(rows, vectors)
        return built

    @property
    def dim(self) -> int:
        """Numbers in a vector."""
        return int(self._index.d)

    @property
    def kind(self) -> str:
        """Its kind."""
        return self._kind

    @property
    def oversampling(self) -> int:
        """See `VectorIndex`."""
        return _OVERSAMPLING[self._kind]

    @property
    def is_quick_to_build(self) -> bool:
        """See `VectorIndex`."""
        return self._kind == "flat"

    @property
    def num_dead(self) -> int:
        """Vectors that were removed and still take memory."""
        return self._num_dead

    def __len__(self) -> int:
        return len(self._rows) - self._num_dead

    def rows(self) -> IntArray:
        """All row numbers, ascending."""
        rows: IntArray = self._rows[self._alive]
        return rows

    def add(self, rows: IntArray, vectors: FloatArray) -> None:
        """See `VectorIndex`.

        Args:
            rows: Ascending row numbers.
            vectors: FloatArray [num_added, dim].
        """
        last_row = int(self._rows[-1]) if len(self._rows) else -1
        check_added(rows, vectors, dim=self.dim, last_row=last_row)
        if not len(rows):
            return
        self._index.add(np.ascontiguousarray(vectors, dtype=np.float32))
        self._rows = np.concatenate([self._rows, rows])
        self._alive = np.concatenate([self._alive, np.ones(len(rows), dtype=np.bool_)])

    def remove(self, rows: IntArray) -> int:
        """See `VectorIndex`; marks only.

        Args:
            rows: Row numbers.

        Returns:
            How many were there.
        """
        wanted = np.unique(rows)
        places = np.searchsorted(self._rows, wanted)
        is_held = places < len(self._rows)
        places, wanted = places[is_held], wanted[is_held]
        places = places[(self._rows[places] == wanted) & self._alive[places]]
        self._alive[places] = False
        self._num_dead += len(places)
        return len(places)

    def search(self, vectors: FloatArray, k: int) -> list[Neighbours]:
        """See `VectorIndex`.

        Args:
            vectors: FloatArray [num_queries, dim].
            k: Neighbours for each.

        Returns:
            The neighbours; fewer than `k` if the lists or the part of the graph that were looked at hold no more.
        """
        check_vectors(vectors, dim=self.dim)
        check_k(k)
        if not len(self) or not len(vectors):
            return [no_neighbours() for _ in vectors]
        k = min(k, len(self))
        scores, places = self._index.search(
            np.ascontiguousarray(vectors, dtype=np.float32), k, params=self._parameters(k)
        )
        return [self._neighbours(*found) for found in zip(scores, places, strict=True)]

    def _neighbours(self, scores: FloatArray, places: IntArray) -> Neighbours:
        found = places >= 0  # -1 where there was nothing more
        scores, rows = scores[found], self._rows[places[found]]
        order = np.lexsort((rows, -scores))
        return Neighbours(scores[order], rows[order])

    def _parameters(self, k: int) -> Any:  # Any: see __init__
        options: dict[str, Any] = {}
        if self._num_dead:
            options["sel"] = self._faiss.IDSelectorBitmap(np.packbits(self._alive, bitorder="little"))
        if self._kind == "hnsw":
            return self._faiss.SearchParametersHNSW(efSearch=max(_HNSW_SEARCH_WIDTH, 2 * k), **options)
        if self._kind == "ivf_pq":
            num_probes = min(self._index.nlist, max(_MIN_PROBES, self._index.nlist // _LISTS_PER_PROBE))
            return self._faiss.IVFPQSearchParameters(nprobe=num_probes, **options)
        return self._faiss.SearchParameters(**options)

    def save(self, writer: IndexWriter) -> None:
        """See `VectorIndex`.

        Args:
            writer: Where to.
        """
        writer.array("rows", self._rows)
        writer.array("alive", self._alive)
        writer.array("num_trained", np.array(self.num_trained))
        with writer.stream("faiss") as part:
            self._faiss.write_index(self._index, self._faiss.PyCallbackIOWriter(part.write))


class FaissBuilder:
    """Builds `FaissIndex`, see `IndexBuilder`.

    Args:
        kind: What to build; None chooses by the number of vectors, see this module's table.

    Raises:
        ConfigError: There is no such kind.
        MissingDependencyError: `faiss` is not installed.
    """

    def __init__(self, kind: FaissKind | None = None) -> None:
        if kind is not None and kind not in KINDS:
            raise ConfigError(f"the kind of a FAISS index must be one of {listed(KINDS)}, got {shown(kind)}")
        self._faiss = require("faiss", extra="rac")
        self._kind = kind

    def build(self, source: VectorSource) -> FaissIndex:
        """See `IndexBuilder`.

        Args:
            source: What the index shall hold.

        Returns:
            The index.
        """
        return FaissIndex.build(self._kind_for(len(source)), source)

    def _kind_for(self, num_vectors: int) -> FaissKind:
        if self._kind is not None:
            return "flat" if self._kind == "ivf_pq" and num_vectors < MIN_PQ_VECTORS else self._kind
        if num_vectors <= FLAT_VECTORS:
            return "flat"
        return "hnsw" if num_vectors <= HNSW_VECTORS else "ivf_pq"

    def load(self, reader: IndexReader) -> FaissIndex:
        """See `IndexBuilder`.

        Args:
            reader: Where from.

        Returns:
            The index.

        Raises:
            DataError: It is no such index.
        """
        written, dim = reader.header.get("kind"), reader.header.get("dim")
        kind = next((kind for kind in KINDS if kind == written), None)
        if kind is None:
            raise DataError(f"the index is of the kind {shown(written)}, not one of {listed(KINDS)}")
        if not isinstance(dim, int) or not 0 < dim <= _MAX_DIM:
            raise DataError(f"the index must have a dimension, got {shown(dim)}")
        rows, alive = checked_rows(reader.array("rows", np.int64)), reader.array("alive", np.bool_)
        expected = Expected(kind, dim, len(rows), num_links=_HNSW_LINKS, code_bytes=_code_bytes(dim))
        return FaissIndex(
            kind,
            self._read(reader, expected),
            rows=rows,
            alive=alive,
            num_trained=int(reader.array("num_trained", np.int64, 0)),
        )

    def _read(self, reader: IndexReader, expected: Expected) -> Any:  # Any: see FaissIndex
        with reader.stream("faiss") as part:
            stream = CheckedStream(part, reader.size("faiss"), expected)
            try:
                index = self._faiss.read_index(self._faiss.PyCallbackIOReader(stream.read))
            except RuntimeError as error:
                raise DataError(f"FAISS cannot read the index: {cause(error)}") from error
            stream.finish()
        return index

    def suits(self, index: VectorIndex) -> bool:
        """See `IndexBuilder`.

        Args:
            index: The index.

        Returns:
            Whether it may stay.
        """
        if not isinstance(index, FaissIndex):
            return False
        if index.num_dead > max(_MIN_DEAD, len(index) // 3):
            return False
        if index.kind == "ivf_pq" and len(index) > _MAX_GROWTH * index.num_trained:
            return False
        return index.kind in {self._kind_for(len(index)), self._kind_for(len(index) // 2)}


def _new_index(kind: FaissKind, source: VectorSource) -> Any:  # Any: see FaissIndex
    faiss = require("faiss", extra="rac")
    if kind == "flat":
        return faiss.IndexFlatIP(source.dim)
    if kind == "hnsw":
        graph = faiss.IndexHNSWFlat(source.dim, _HNSW_LINKS, faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efConstruction = _HNSW_BUILD_WIDTH
        return graph
    num_lists = max(1, min(4 * math.isqrt(len(source)), len(source) // _TRAINING_PER_CENTROID))
    lists = faiss.IndexIVFPQ(
        faiss.IndexFlatIP(source.dim),
        source.dim,
        num_lists,
        _code_bytes(source.dim),
        _PQ_BITS,
        faiss.METRIC_INNER_PRODUCT,
    )
    # FAISS' defaults train codebooks four times as long, for nothing that a search would notice.
    lists.pq.cp.niter = _TRAINING_ROUNDS
    lists.pq.cp.max_points_per_centroid = 2 * _TRAINING_PER_CENTROID
    lists.train(source.sample(max(2 * MIN_PQ_VECTORS, _TRAINING_PER_CENTROID * num_lists)))
    return lists


def _code_bytes(dim: int) -> int:
    """Bytes of a compressed vector: the greatest divisor of `dim` up to a byte for eight numbers."""
    return max(size for size in range(1, max(1, dim // _NUMBERS_PER_BYTE) + 1) if dim % size == 0)


def _no_rows() -> IntArray:
    return np.zeros(0, dtype=np.int64)


def _no_marks() -> np.ndarray[Any, Any]:
    return np.zeros(0, dtype=np.bool_)
