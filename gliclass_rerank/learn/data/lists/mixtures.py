"""Which teachers are right about which lists, and how their scores become one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

CROSS: Final = "ms-marco-MiniLM-L-12"
MPNET: Final = "all-mpnet-base-v2"
DENSE: Final = "bge-small-en"
LATE: Final = "answerai-colbert-small"
_SMALLEST: Final = 1e-6


@dataclass(frozen=True)
class Mixture:
    """The mean of z-scores within the list, on the scale of logits.

    Attributes:
        weights: By teacher; where not all of them have scored a list, it has no mixture.
        base: The teacher whose mean the list's is, or that number.
        spread: Standard deviation of a list; None for the base teacher's own.
        relevant: Added for a passage that is judged relevant.
    """

    weights: Mapping[str, float]
    base: str | float = -4.0
    spread: float | None = 3.0
    relevant: float = 1.5


MIXTURES: Final[Mapping[str, Mixture]] = {
    "web": Mixture({CROSS: 1}, base=CROSS, spread=None),
    "similar": Mixture({MPNET: 1, LATE: 1}),
    "technical": Mixture({MPNET: 1, DENSE: 1}),
}


def mixed(
    mixture: Mixture, scores: Mapping[str, NDArray[np.float32]], grades: Sequence[int]
) -> NDArray[np.float32] | None:
    """Mix the scores of one list.

    Args:
        mixture: What is added up.
        scores: By teacher, FloatArray [num_candidates].
        grades: One a candidate; below 0 if nobody has judged it.

    Returns:
        FloatArray [num_candidates], or None if a teacher is missing.
    """
    if not mixture.weights.keys() <= scores.keys():
        return None
    summed = sum(weight * _standardised(scores[name]) for name, weight in mixture.weights.items())
    base = scores[mixture.base] if isinstance(mixture.base, str) else np.array([mixture.base], dtype=np.float32)
    spread = float(base.std()) if mixture.spread is None else mixture.spread
    # The mean of several z-scores varies less than one of them: the sum is brought to the list's spread again.
    bonus = mixture.relevant * (np.asarray(grades) > 0)
    return np.asarray(base.mean() + spread * _standardised(np.asarray(summed)) + bonus, dtype=np.float32)


def _standardised(values: NDArray[np.float32]) -> NDArray[np.float32]:
    scaled: NDArray[np.float32] = (values - values.mean()) / max(float(values.std()), _SMALLEST)
    return scaled
