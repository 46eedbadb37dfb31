"""Calibration of scores: expected calibration error and Platt scaling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from gliclass_rerank.errors import DataError

_MAX_STEPS: Final = 100
_MAX_HALVINGS: Final = 30
_TOLERANCE: Final = 1e-10


def expected_calibration_error(scores: Sequence[float], outcomes: Sequence[bool], *, num_bins: int = 15) -> float:
    """Expected calibration error (Guo et al., arXiv 1706.04599), in [0, 1]; 0 is best.

    Args:
        scores: In [0, 1], at least one.
        outcomes: True outcome of each score.
        num_bins: Number of bins of equal width.

    Returns:
        Gap between mean score and share of true outcomes, averaged over the bins by size.
    """
    values, truths = np.asarray(scores, dtype=np.float64), np.asarray(outcomes, dtype=np.float64)
    bins = np.minimum((values * num_bins).astype(np.int64), num_bins - 1)
    gaps = np.bincount(bins, weights=values - truths, minlength=num_bins)
    return float(np.abs(gaps).sum() / len(values))


def fit_calibration(logits: Sequence[float], outcomes: Sequence[bool]) -> tuple[float, float]:
    """Fit Platt scaling, a logistic regression of outcomes on logits with smoothed targets.

    Deterministic: Newton's method with halved steps on a convex loss (Lin, Lin and Weng, 2007).

    Args:
        logits: One per pair.
        outcomes: Relevance of each pair; both values must occur.

    Returns:
        Slope (above 0) and intercept.

    Raises:
        DataError: Only one outcome occurs, or higher logits do not mean more relevance.
    """
    values, truths = np.asarray(logits, dtype=np.float64), np.asarray(outcomes, dtype=bool)
    positives = int(truths.sum())
    negatives = len(truths) - positives
    if not positives or not negatives:
        raise DataError(f"calibration needs relevant and irrelevant passages, got {positives} and {negatives}")
    # Smoothed targets keep the slope finite for separable classes.
    targets = np.where(truths, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    # Standardised, so that one tolerance fits any scale.
    centre, spread = float(values.mean()), float(values.std()) or 1.0
    inputs = np.stack([(values - centre) / spread, np.ones_like(values)], axis=1)
    line = np.array([0.0, math.log((positives + 1) / (negatives + 1))])
    loss = _loss(inputs @ line, targets)
    for _ in range(_MAX_STEPS):
        chances = 1 / (1 + np.exp(-inputs @ line))
        gradient = inputs.T @ (chances - targets)
        hessian = (inputs.T * (chances * (1 - chances))) @ inputs + 1e-12 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        for halving in range(_MAX_HALVINGS):
            tried = line - step / 2**halving
            new_loss = _loss(inputs @ tried, targets)
            if new_loss <= loss:
                break
        else:
            break
        gain, line, loss = loss - new_loss, tried, new_loss
        if gain < _TOLERANCE * len(values):
            break
    slope = float(line[0]) / spread
    if slope <= 0:
        raise DataError(f"calibration needs logits that rise with relevance, got a slope of {slope:.4g}")
    return slope, float(line[1]) - slope * centre


def _loss(logits: np.ndarray, targets: np.ndarray) -> float:
    """Cross-entropy without overflow."""
    return float((np.logaddexp(0, logits) - targets * logits).sum())
