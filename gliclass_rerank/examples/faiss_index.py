"""FAISS indexes: exact, graph, or compressed lists, chosen by the number of vectors.

| kind | chosen for | properties |
|---|---|---|
| `flat` | up to 20,000 vectors | exact; a few milliseconds per search, nothing to build |
| `hnsw` | up to 200,000 | graph over full vectors; fast search, slow build, as much memory as the vectors |
| `ivf_pq` | more | inverted lists by nearest centroid, one byte per eight numbers; fast build |

A kind is kept up to twice its limit, so that a store near a border is not rebuilt repeatedly.

Unsafe FAISS defaults are avoided: the metric is explicit (HNSW defaults to L2), results of -1 (no more found) are
dropped, and removed vectors are hidden by a selector, because a graph cannot lose a node; with a quarter removed the
index asks to be rebuilt.
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

# Links per node, and candidates during construction: more is slower to build and finds more.
_HNSW_LINKS: Final = 32
_HNSW_BUILD_WIDTH: Final = 80
_HNSW_SEARCH_WIDTH: Final = 128
# A codebook has 256 entries, and FAISS wants 39 training vectors for each.
_PQ_BITS: Final = 8
_TRAINING_PER_CENTROID: Final = 39
_TRAINING_ROUNDS: Final = 10
MIN_PQ_VECTORS: Final = _TRAINING_PER_CENTROID * 2**_PQ_BITS
# FAISS trains codebooks for fewer than eight numbers ten times as long.
_NUMBERS_PER_BYTE: Final = 8
# Share of lists that a search reads, and the minimum number.
_LISTS_PER_PROBE, _MIN_PROBES = 32, 32
# Growth factor beyond which lists are too long.
_MAX_GROWTH: Final = 4
_OVERSAMPLING: Final = {"flat": 1, "hnsw": 1, "ivf_pq": 64}
# Limit of FAISS.
_MAX_DIM: Final = 2**20
# Below this number, removed vectors cost nothing noticeable.
_MIN_DEAD: Final = 1000


class FaissIndex:
    """FAISS index with row numbers and removal.

    Args:
        kind: Kind of index.
        faiss_index: Inner-product index, owned by this object, whose n-th vector has the n-th row number.
        rows: IntArray [num_held]. Row numbers, ascending, removed ones included.
        alive: BoolArray [num_held]. False on removed vectors.
        num_trained: Number of vectors when the lists were trained.

    Raises:
        DataError: The parts are inconsistent, or the metric is another one.
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
        """Build an index; `ivf_pq` falls back to `flat` with too few training vectors.

        Args:
            kind: Kind of index.
            source: Vectors.

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
        """Dimension of the vectors."""
        return int(self._index.d)

    @property
    def kind(self) -> str:
        """Kind of index."""
        return self._kind

    @property
    def oversampling(self) -> int:
        """Factor on the number of neighbours requested; 1 if exact."""
        return _OVERSAMPLING[self._kind]

    @property
    def is_quick_to_build(self) -> bool:
        """True if building is no slower than reading."""
        return self._kind == "flat"

    @property
    def num_dead(self) -> int:
        """Number of removed vectors still in memory."""
        return self._num_dead

    @property
    def last_row(self) -> int:
        """Greatest row number ever added, or -1."""
        return int(self._rows[-1]) if len(self._rows) else -1

    def __len__(self) -> int:
        return len(self._rows) - self._num_dead

    def rows(self) -> IntArray:
        """All row numbers, ascending."""
        rows: IntArray = self._rows[self._alive]
        return rows

    def add(self, rows: IntArray, vectors: FloatArray) -> None:
        """Add vectors."""
        check_added(rows, vectors, dim=self.dim, last_row=self.last_row)
        if not len(rows):
            return
        self._index.add(np.ascontiguousarray(vectors, dtype=np.float32))
        self._rows = np.concatenate([self._rows, rows])
        self._alive = np.concatenate([self._alive, np.ones(len(rows), dtype=np.bool_)])

    def remove(self, rows: IntArray) -> int:
        """Mark vectors as removed, and count them."""
        wanted = np.unique(rows)
        places = np.searchsorted(self._rows, wanted)
        is_held = places < len(self._rows)
        places, wanted = places[is_held], wanted[is_held]
        places = places[(self._rows[places] == wanted) & self._alive[places]]
        self._alive[places] = False
        self._num_dead += len(places)
        return len(places)

    def search(self, vectors: FloatArray, k: int) -> list[Neighbours]:
        """Find up to `k` neighbours per query; fewer if the visited lists or graph nodes hold no more."""
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
        """Write the index."""
        writer.array("rows", self._rows)
        writer.array("alive", self._alive)
        writer.array("num_trained", np.array(self.num_trained))
        with writer.stream("faiss") as part:
            self._faiss.write_index(self._index, self._faiss.PyCallbackIOWriter(part.write))


class FaissBuilder:
    """Builder of FAISS indexes.

    Args:
        kind: Kind of index; None chooses by the number of vectors.

    Raises:
        ConfigError: Unknown kind.
        MissingDependencyError: `faiss` is not installed.
    """

    def __init__(self, kind: FaissKind | None = None) -> None:
        if kind is not None and kind not in KINDS:
            raise ConfigError(f"the kind of a FAISS index must be one of {listed(KINDS)}, got {shown(kind)}")
        self._faiss = require("faiss", extra="rac")
        self._kind = kind

    def build(self, source: VectorSource) -> FaissIndex:
        """Build an index."""
        return FaissIndex.build(self._kind_for(len(source)), source)

    def _kind_for(self, num_vectors: int) -> FaissKind:
        if self._kind is not None:
            return "flat" if self._kind == "ivf_pq" and num_vectors < MIN_PQ_VECTORS else self._kind
        if num_vectors <= FLAT_VECTORS:
            return "flat"
        return "hnsw" if num_vectors <= HNSW_VECTORS else "ivf_pq"

    def load(self, reader: IndexReader) -> FaissIndex:
        """Read an index; a `DataError` if it is invalid."""
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
        """Test if an index still has the right kind and few removed vectors."""
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
    # FAISS' defaults train codebooks four times as long, without noticeable gain.
    lists.pq.cp.niter = _TRAINING_ROUNDS
    lists.pq.cp.max_points_per_centroid = 2 * _TRAINING_PER_CENTROID
    lists.train(source.sample(max(2 * MIN_PQ_VECTORS, _TRAINING_PER_CENTROID * num_lists)))
    return lists


def _code_bytes(dim: int) -> int:
    """Bytes of a compressed vector: the largest divisor of `dim` up to one byte per eight numbers."""
    return max(size for size in range(1, max(1, dim // _NUMBERS_PER_BYTE) + 1) if dim % size == 0)


def _no_rows() -> IntArray:
    return np.zeros(0, dtype=np.int64)


def _no_marks() -> np.ndarray[Any, Any]:
    return np.zeros(0, dtype=np.bool_)
