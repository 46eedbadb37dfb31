"""Paired comparison of two models, query by query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gliclass_rerank.learn.evaluation.bootstrap import resampled_means


@dataclass(frozen=True)
class Comparison:
    """Figures of two models on the same queries.

    Attributes:
        name: Name of the figure.
        num_queries: Queries measured.
        old: Mean of the old model.
        new: Mean of the new one.
        low: Lower bound of the mean difference, one-sided.
        high: Upper bound, one-sided.
    """

    name: str
    num_queries: int
    old: float
    new: float
    low: float
    high: float

    @property
    def gain(self) -> float:
        """Mean difference."""
        return self.new - self.old


def compare(name: str, old: Sequence[float], new: Sequence[float], *, confidence: float, seed: int = 0) -> Comparison:
    """Compare two models with a paired bootstrap over queries.

    Args:
        name: Name of the figure.
        old: Figure of the old model by query, at least one.
        new: Figure of the new one, in the same order.
        confidence: Confidence of each of the two bounds.
        seed: Seed of the resamples.

    Returns:
        The comparison.
    """
    before, after = np.asarray(old, dtype=np.float64), np.asarray(new, dtype=np.float64)
    low, high = np.quantile(resampled_means(after - before, seed=seed), [1 - confidence, confidence])
    return Comparison(name, len(before), float(before.mean()), float(after.mean()), float(low), float(high))
