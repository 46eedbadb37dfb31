"""Whether a difference between two ways to do the same thing could be chance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import permutation_test

RESAMPLES = 10_000


def p_value(first: Sequence[float], second: Sequence[float]) -> float:
    """Two-sided paired randomisation test of the difference of the means.

    Args:
        first: A figure for each query or text.
        second: The other way's, in the same order.

    Returns:
        The share of resamples, each of which swaps some of the pairs, with a difference at least as large.
    """
    if list(first) == list(second):
        return 1.0
    found = permutation_test(
        [first, second],
        lambda one, other, axis: np.mean(one, axis=axis) - np.mean(other, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        rng=np.random.default_rng(0),
    )
    return float(found.pvalue)
