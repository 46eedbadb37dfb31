"""Calibration of scores: expected calibration error and logistic regression."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gliclass_rerank.errors import DataError

_MAX_STEPS: Final = 100
_MAX_HALVINGS: Final = 30
_TOLERANCE: Final = 1e-10


def expected_calibration_error(
    scores: ArrayLike, outcomes: ArrayLike, *, num_bins: int = 15, weights: ArrayLike | None = None
) -> float:
    """Expected calibration error (Guo et al., arXiv 1706.04599), in [0, 1]; 0 is best.

    Args:
        scores: In [0, 1], at least one.
        outcomes: True outcome of each score.
        num_bins: Number of bins of equal width.
        weights: Weight of each score; None for equal ones.

    Returns:
        Gap between mean score and share of true outcomes, averaged over the bins by weight.
    """
    values, truths = np.asarray(scores, dtype=np.float64), np.asarray(outcomes, dtype=np.float64)
    shares = np.ones_like(values) if weights is None else np.asarray(weights, dtype=np.float64)
    bins = np.minimum((values * num_bins).astype(np.int64), num_bins - 1)
    gaps = np.bincount(bins, weights=shares * (values - truths), minlength=num_bins)
    return float(np.abs(gaps).sum() / shares.sum())


def area_under_curve(scores: ArrayLike, outcomes: ArrayLike) -> float:
    """Area under the ROC curve: how often a true outcome has the higher score, ties half; NaN with one outcome only."""
    values, truths = np.asarray(scores, dtype=np.float64), np.asarray(outcomes, dtype=bool)
    _, ranks, counts = np.unique(values, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts - 1) / 2  # mean rank of equal scores, from 1
    positives = int(truths.sum())
    negatives = len(truths) - positives
    if not positives or not negatives:
        return math.nan
    return float((middle[ranks][truths].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def fit_calibration(logits: ArrayLike, outcomes: ArrayLike, weights: ArrayLike | None = None) -> tuple[float, float]:
    """Fit Platt scaling, a logistic regression of outcomes on logits.

    Args:
        logits: One per pair.
        outcomes: Relevance of each pair; both values must occur.
        weights: Weight of each pair; None for equal ones.

    Returns:
        Slope (above 0) and intercept.

    Raises:
        DataError: Only one outcome occurs, or higher logits do not mean more relevance.
    """
    slope, intercept = fit_logistic(np.asarray(logits, dtype=np.float64)[:, None], outcomes, weights)
    if slope <= 0:
        raise DataError(f"calibration needs logits that rise with relevance, got a slope of {slope:.4g}")
    return float(slope), float(intercept)


def fit_logistic(
    features: NDArray[np.float64], outcomes: ArrayLike, weights: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Fit a logistic regression with Platt's smoothed targets.

    Deterministic: Newton's method with halved steps on a convex loss (Lin, Lin and Weng, 2007).

    Args:
        features: FloatArray [num_pairs, num_features].
        outcomes: One per pair; both values must occur.
        weights: Weight of each pair; None for equal ones.

    Returns:
        FloatArray [num_features + 1]. Weight of each feature, then the intercept.

    Raises:
        DataError: Only one outcome occurs.
    """
    truths = np.asarray(outcomes, dtype=bool)
    positives = int(truths.sum())
    negatives = len(truths) - positives
    if not positives or not negatives:
        raise DataError(f"calibration needs relevant and irrelevant passages, got {positives} and {negatives}")
    shares = np.ones(len(truths)) if weights is None else np.asarray(weights, dtype=np.float64)
    shares = shares * (len(truths) / shares.sum())
    # Smoothed targets keep the weights finite for separable classes.
    targets = np.where(truths, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    # Standardised, so that one tolerance fits any scale.
    centre, spread = features.mean(axis=0), features.std(axis=0)
    spread[spread == 0] = 1
    inputs = np.column_stack([(features - centre) / spread, np.ones(len(truths))])
    start = np.zeros(inputs.shape[1])
    start[-1] = math.log((positives + 1) / (negatives + 1))
    line = _minimum(inputs, targets, shares, start)
    line[:-1] /= spread
    line[-1] -= line[:-1] @ centre
    return line


def _minimum(
    inputs: NDArray[np.float64], targets: NDArray[np.float64], weights: NDArray[np.float64], line: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Minimise the weighted cross-entropy from `line` on."""
    loss = _loss(inputs @ line, targets, weights)
    for _ in range(_MAX_STEPS):
        chances = 1 / (1 + np.exp(-inputs @ line))
        gradient = inputs.T @ (weights * (chances - targets))
        hessian = (inputs.T * (weights * chances * (1 - chances))) @ inputs + 1e-12 * np.eye(len(line))
        step = np.linalg.solve(hessian, gradient)
        for halving in range(_MAX_HALVINGS):
            tried = line - step / 2**halving
            new_loss = _loss(inputs @ tried, targets, weights)
            if new_loss <= loss:
                break
        else:
            break
        gain, line, loss = loss - new_loss, tried, new_loss
        if gain < _TOLERANCE * len(targets):
            break
    return line


def _loss(logits: NDArray[np.float64], targets: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """Weighted cross-entropy without overflow."""
    return float((weights * (np.logaddexp(0, logits) - targets * logits)).sum())
