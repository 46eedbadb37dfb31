"""Dense retrieval by exact cosine search.

Encoding the pool takes longest, so it is stored in shards that a resumed run reuses.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from gliclass_rerank.files.atomic_write import atomic_file
from gliclass_rerank.learn.data.progress import Progress, silent
from gliclass_rerank.text_models.interfaces import FloatArray, TextEncoder

_SHARD_PASSAGES: Final = 1024
# Queries scored against the whole pool at once.
_BLOCK_QUERIES: Final = 16


class DenseRetriever:
    """Cosine search in a pool.

    Args:
        texts: Pool; not empty.
        encoder: Encoder of passages and queries.
        cache: Folder for the passages' vectors, of this pool and encoder; created if missing.
        progress: Progress of passages encoded.

    Raises:
        BackendError: The encoder failed.
    """

    def __init__(self, texts: Sequence[str], encoder: TextEncoder, *, cache: Path, progress: Progress = silent) -> None:
        self._encoder = encoder
        cache.mkdir(exist_ok=True)
        shards: list[FloatArray] = []
        with progress("passages encoded", len(texts)) as advance:
            for start in range(0, len(texts), _SHARD_PASSAGES):
                shard = texts[start : start + _SHARD_PASSAGES]
                shards.append(_vectors(cache / f"{start}.npy", shard, encoder))
                advance(len(shard))
        self._vectors: FloatArray = np.concatenate(shards)

    def retrieve(self, queries: Sequence[str], depth: int) -> list[list[int]]:
        """Find the passages with the highest cosines, ties by position in the pool."""
        return nearest(self._encoder.encode(queries, "query").vectors, self._vectors, depth)

    def similarities(self, query: str, indices: Sequence[int]) -> list[float]:
        """Cosines of a query with passages at some positions."""
        (vector,) = self._encoder.encode([query], "query").vectors
        return [float(cosine) for cosine in self._vectors[list(indices)] @ vector]


def nearest(queries: FloatArray, passages: FloatArray, depth: int) -> list[list[int]]:
    """Exact search by dot product.

    Args:
        queries: FloatArray [num_queries, embed_dim].
        passages: FloatArray [num_passages, embed_dim]; at least one.
        depth: Maximum number of results per query.

    Returns:
        Positions of the passages with the highest products per query, ties by position.
    """
    rankings = []
    for start in range(0, len(queries), _BLOCK_QUERIES):
        for cosines in queries[start : start + _BLOCK_QUERIES] @ passages.T:
            count = min(depth, len(cosines))
            best = np.argpartition(-cosines, count - 1)[:count]
            rankings.append([int(index) for index in best[np.lexsort((best, -cosines[best]))]])
    return rankings


def _vectors(path: Path, texts: Sequence[str], encoder: TextEncoder) -> FloatArray:
    if path.is_file():
        cached: FloatArray = np.load(path, allow_pickle=False)
        return cached
    vectors = encoder.encode(texts, "passage").vectors
    with atomic_file(path) as staging, staging.open("wb") as handle:
        np.save(handle, vectors, allow_pickle=False)
    return vectors
