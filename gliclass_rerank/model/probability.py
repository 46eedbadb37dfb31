"""Conversion of logits to probabilities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple


class Calibration(NamedTuple):
    """Slopes and intercepts before the sigmoid.

    Attributes:
        score: Of a passage's score; None for 1 and 0.
        answerable: Of the best logit of a list, for the probability that any of its passages answers the query; None if
            the checkpoint has none.
        label: See `ModelConfig.label_calibration`.
    """

    score: tuple[float, float] | None = None
    answerable: tuple[float, float] | None = None
    label: tuple[float, float, float] | None = None


def probabilities(logits: Sequence[float], calibration: tuple[float, float] | None = None) -> list[float]:
    """Convert logits to scores in [0, 1], the sigmoid of slope * logit + intercept, in float64 without overflow.

    `calibration` is slope and intercept; None means 1 and 0.
    """
    slope, intercept = calibration or (1.0, 0.0)
    scores = []
    for logit in logits:
        scaled = slope * logit + intercept
        exponential = math.exp(-abs(scaled))
        scores.append((1.0 if scaled >= 0 else exponential) / (1 + exponential))
    return scores


def softmax(logits: Sequence[float]) -> list[float]:
    """Convert the logits of candidates of which exactly one applies to probabilities, which sum to 1."""
    best = max(logits, default=0.0)
    powers = [math.exp(logit - best) for logit in logits]
    total = math.fsum(powers)
    return [power / total for power in powers]
