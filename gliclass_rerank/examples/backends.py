"""Registry of index backends."""

from __future__ import annotations

import importlib.util
import logging
from typing import Final, Literal, get_args

from gliclass_rerank.checks import checked_choice, of_settings
from gliclass_rerank.examples.faiss_index import FLAT_VECTORS, FaissBuilder, FaissKind
from gliclass_rerank.examples.index import IndexBuilder, VectorIndex, VectorSource
from gliclass_rerank.examples.index_file import IndexReader
from gliclass_rerank.examples.numpy_index import NumpyBuilder, NumpyIndex

Backend = Literal["auto", "numpy", "faiss", "faiss_flat", "faiss_hnsw", "faiss_ivf_pq"]

BACKENDS: Final = get_args(Backend)
_FAISS_KINDS: Final[dict[str, FaissKind]] = {"faiss_flat": "flat", "faiss_hnsw": "hnsw", "faiss_ivf_pq": "ivf_pq"}

logger = logging.getLogger(__name__)


def builder_of(backend: str) -> IndexBuilder:
    """Find the index builder of a backend.

    Args:
        backend: `numpy`; `faiss` (kind chosen by size); one kind of FAISS; or `auto`: numpy up to 20,000 vectors, then
            FAISS if installed.

    Returns:
        The builder.

    Raises:
        ConfigError: Unknown backend.
        MissingDependencyError: Its package is not installed.
    """
    with of_settings():
        backend = checked_choice("backend", backend, BACKENDS)
    if backend == "auto":
        return _AutoBuilder() if importlib.util.find_spec("faiss") else _LoneNumpyBuilder()
    if backend == "numpy":
        return NumpyBuilder()
    return FaissBuilder(_FAISS_KINDS.get(backend))


class _LoneNumpyBuilder(NumpyBuilder):
    """Numpy builder without FAISS installed; logs when that matters."""

    def build(self, source: VectorSource) -> NumpyIndex:
        if len(source) > FLAT_VECTORS:
            logger.warning(
                "%d examples are searched without an index, because faiss is not installed; "
                "run: pip install 'gliclass-rerank[rac]'",
                len(source),
            )
        return super().build(source)


class _AutoBuilder:
    """Numpy for few vectors, FAISS for many."""

    def __init__(self) -> None:
        self._small = NumpyBuilder()
        self._large: FaissBuilder | None = None

    def _faiss(self) -> FaissBuilder:
        self._large = self._large or FaissBuilder()
        return self._large

    def build(self, source: VectorSource) -> VectorIndex:
        return self._small.build(source) if len(source) <= FLAT_VECTORS else self._faiss().build(source)

    def load(self, reader: IndexReader) -> VectorIndex:
        is_small = reader.header.get("kind") == NumpyIndex.kind
        return self._small.load(reader) if is_small else self._faiss().load(reader)

    def suits(self, index: VectorIndex) -> bool:
        if isinstance(index, NumpyIndex):
            return len(index) <= 2 * FLAT_VECTORS
        return len(index) > FLAT_VECTORS // 2 and self._faiss().suits(index)
