"""Mixtures of teachers' scores by list kind."""

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
    """Mean of z-scores within a list, on the scale of logits.

    Attributes:
        weights: Weight by teacher; a list without all their scores has no mixture.
        base: Mean of a list: a teacher's, or a number.
        spread: Standard deviation of a list; None for the base teacher's.
        relevant: Bonus of a passage judged relevant.
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
        mixture: Mixture of its kind.
        scores: FloatArray [num_candidates] by teacher.
        grades: One per candidate; below 0 if unjudged.

    Returns:
        FloatArray [num_candidates], or None if a teacher is missing.
    """
    if not mixture.weights.keys() <= scores.keys():
        return None
    summed = sum(weight * _standardised(scores[name]) for name, weight in mixture.weights.items())
    base = scores[mixture.base] if isinstance(mixture.base, str) else np.array([mixture.base], dtype=np.float32)
    spread = float(base.std()) if mixture.spread is None else mixture.spread
    # A mean of z-scores varies less than one of them: restore the list's spread.
    bonus = mixture.relevant * (np.asarray(grades) > 0)
    return np.asarray(base.mean() + spread * _standardised(np.asarray(summed)) + bonus, dtype=np.float32)


def _standardised(values: NDArray[np.float32]) -> NDArray[np.float32]:
    scaled: NDArray[np.float32] = (values - values.mean()) / max(float(values.std()), _SMALLEST)
    return scaled
