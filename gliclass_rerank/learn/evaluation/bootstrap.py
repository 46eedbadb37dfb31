"""Bootstrap of a mean over queries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

_RESAMPLES: Final = 10_000
_BLOCKS: Final = 10


def resampled_means(values: Sequence[float] | NDArray[np.float64], *, seed: int = 0) -> NDArray[np.float64]:
    """Means of 10,000 resamples with replacement.

    Args:
        values: One per query, at least one.
        seed: Seed of the resamples.

    Returns:
        FloatArray [10000].
    """
    given, rng = np.asarray(values, dtype=np.float64), np.random.default_rng(seed)
    count = len(given)
    # By the counts of each query in a resample, a block at a time.
    blocks = (
        rng.multinomial(count, np.full(count, 1 / count), size=_RESAMPLES // _BLOCKS) @ given / count
        for _ in range(_BLOCKS)
    )
    return np.concatenate([*blocks])
