"""Cache of scores, limited in bytes, least recently used ones go first."""

from __future__ import annotations

import sys
from array import array
from typing import Any, Final, NamedTuple

from cachetools import LRUCache

from gliclass_rerank.serve.core import Scores
from gliclass_rerank.types import Hit, Truncation

# Of the key, the entry and their places in two dicts.
_ENTRY_BYTES: Final = 600
_TRUNCATION_BYTES: Final = 200


class _Entry(NamedTuple):
    indices: array[int]
    logits: array[float]
    scores: array[float]
    truncated: tuple[Truncation, ...]
    truncated_query: Truncation | None
    num_tokens: int


def _size(entry: _Entry) -> int:
    numbers = sum(map(sys.getsizeof, (entry.indices, entry.logits, entry.scores)))
    return _ENTRY_BYTES + numbers + _TRUNCATION_BYTES * len(entry.truncated)


class ScoreCache:
    """Scores of answered requests by their digest; for one thread.

    Args:
        max_bytes: Memory for all entries; 0 for none.
    """

    def __init__(self, max_bytes: int) -> None:
        self._entries: LRUCache[bytes, Any] = LRUCache(max_bytes, getsizeof=_size)

    @property
    def num_bytes(self) -> int:
        """Memory in use, estimated."""
        return int(self._entries.currsize)

    def get(self, key: bytes) -> Scores | None:
        """Scores under a key; None if there are none."""
        entry: _Entry | None = self._entries.get(key)
        if entry is None:
            return None
        hits = map(Hit, entry.indices, entry.logits, entry.scores)
        return Scores(tuple(hits), entry.truncated, entry.truncated_query, entry.num_tokens)

    def put(self, key: bytes, scores: Scores) -> None:
        """Keep scores, unless they alone are larger than the cache."""
        entry = _Entry(
            array("I", [hit.index for hit in scores.hits]),
            array("d", [hit.logit for hit in scores.hits]),
            array("d", [hit.score for hit in scores.hits]),
            scores.truncated,
            scores.truncated_query,
            scores.num_tokens,
        )
        if _size(entry) <= self._entries.maxsize:
            self._entries[key] = entry
