"""Sampling of negatives: some from the head of the candidate list, the rest from further down.

The head teaches fine distinctions and holds most false negatives; the middle is safe but too easy alone.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gliclass_rerank.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Settings of negative sampling.

    Attributes:
        num_negatives: Negatives per query, if there are enough candidates.
        depth: Length of the candidate list.
        head_size: Length of its head.
        head_share: Share of the negatives from the head, in [0, 1].
        seed: Seed of the draw, together with the query's id.
    """

    num_negatives: int = 16
    depth: int = 100
    head_size: int = 10
    head_share: float = 0.4
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("num_negatives", "depth"):
            if getattr(self, name) < 1:
                raise ConfigError(f"`{name}` must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.head_size <= self.depth:
            raise ConfigError(f"`head_size` must be between 0 and the depth of {self.depth}, got {self.head_size}")
        if not 0 <= self.head_share <= 1:
            raise ConfigError(f"`head_share` must be between 0 and 1, got {self.head_share}")

    def generator(self, query_id: str) -> np.random.Generator:
        """Random generator that depends on seed and query alone."""
        return np.random.default_rng([self.seed, zlib.crc32(query_id.encode())])

    def draws(self, candidates: Sequence[int], num_wanted: int, rng: np.random.Generator) -> list[int]:
        """Shuffle candidates (best first) into drawing order.

        First the head's share of `num_wanted`, then the rest from below the head, then replacements of refused ones,
        from below
        the head while there are any.
        """
        head = [candidates[i] for i in rng.permutation(min(self.head_size, len(candidates)))]
        below = candidates[self.head_size :]
        middle = [below[i] for i in rng.permutation(len(below))]
        from_head = round(num_wanted * self.head_share)
        return [*head[:from_head], *middle, *head[from_head:]]
