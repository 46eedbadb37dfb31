"""Mixture of sources: the record at stream position i, a pure function of the seed and i.

Each round holds every source in proportion to its weight, shuffled; a source's records are reshuffled for each pass.
Every record is thus seen once before any repeats, and resuming needs only the position.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

# Positions per round; a source with less than half a position gets one.
_ROUND = 1000


class Mixture:
    """Choice of source and record by position.

    Args:
        sizes: Records of each source, at least one.
        weights: Weight of each source, above 0.
        seed: Seed of all orders.
    """

    def __init__(self, sizes: Sequence[int], weights: Sequence[float], seed: int) -> None:
        self._sizes, self._seed = sizes, seed
        self._slots = np.repeat(np.arange(len(sizes)), _apportioned(weights))
        self._in_round = np.bincount(self._slots, minlength=len(sizes))
        # Caches of pure functions; two passes, because neighbouring positions may straddle a border.
        self._round = lru_cache(maxsize=2)(self._round_of)
        self._pass = lru_cache(maxsize=2 * len(sizes))(self._pass_of)

    def at(self, position: int) -> tuple[int, int]:
        """Source and record, each from 0, at a position from 0."""
        number, offset = divmod(position, len(self._slots))
        order, ranks = self._round(number)
        source = int(order[offset])
        reading = number * int(self._in_round[source]) + int(ranks[offset])
        round_trip, index = divmod(reading, self._sizes[source])
        return source, int(self._pass(source, round_trip)[index])

    def _round_of(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Sources of a round in order, and each position's earlier occurrences of its source."""
        order = np.random.default_rng([self._seed, 0, number]).permutation(self._slots)
        ranks = np.empty_like(order)
        for source in range(len(self._sizes)):
            places = np.flatnonzero(order == source)
            ranks[places] = np.arange(len(places))
        return order, ranks

    def _pass_of(self, source: int, number: int) -> np.ndarray:
        return np.random.default_rng([self._seed, 1, source, number]).permutation(self._sizes[source])


def _apportioned(weights: Sequence[float]) -> list[int]:
    """Positions per source in a round, by largest remainder; a single source needs a round of one."""
    if len(weights) == 1:
        return [1]
    shares = [weight / sum(weights) * _ROUND for weight in weights]
    counts = [max(1, int(share)) for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda source: counts[source] - shares[source])
    for source in by_remainder[: max(0, _ROUND - sum(counts))]:
        counts[source] += 1
    return counts
