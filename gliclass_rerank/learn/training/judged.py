"""Judged lists of logits: weights of their pairs, and figures of scores by collection."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gliclass_rerank.learn.evaluation.calibration import (
    area_under_curve,
    expected_calibration_error,
    fit_calibration,
)
from gliclass_rerank.model.probability import probabilities

_THRESHOLD: Final = 0.5
_FOLDS: Final = 2

Line = tuple[float, float]


class JudgedList(NamedTuple):
    """Candidates of one query.

    Attributes:
        logits: Logit of each candidate.
        relevant: Relevance of each candidate.
        first: Logits of a cascade's first checkpoint; empty for other checkpoints.
    """

    logits: Sequence[float]
    relevant: Sequence[bool]
    first: Sequence[float] = ()


class Pairs(NamedTuple):
    """Candidates of many queries; arguments of `fit_calibration`.

    Attributes:
        logits: FloatArray [num_pairs].
        outcomes: BoolArray [num_pairs].
        weights: FloatArray [num_pairs].
    """

    logits: NDArray[np.float64]
    outcomes: NDArray[np.bool_]
    weights: NDArray[np.float64]


@dataclass(frozen=True)
class ScoreFigures:
    """Figures of a collection's scores on queries that the calibration was not fitted on.

    Attributes:
        num_queries: Queries.
        num_pairs: Their candidates.
        error_before: Expected calibration error of the scores as they were, in [0, 1].
        error_after: Expected calibration error of the new ones.
        precision: Precision of scores of at least 0.5; NaN without any.
        recall: Recall of scores of at least 0.5; NaN without relevant candidates.
        area: Area under the ROC curve; NaN with one outcome only.
    """

    num_queries: int
    num_pairs: int
    error_before: float
    error_after: float
    precision: float
    recall: float
    area: float


def pairs_of(collections: Collection[Sequence[JudgedList]], relevant_share: float | None) -> Pairs:
    """Join collections so that each has the same weight, and relevant candidates have `relevant_share` of it.

    A share of None, or a collection with one outcome only, leaves all candidates of the collection at equal weights.
    """
    logits, outcomes, weights = [], [], []
    for lists in collections:
        truths = np.array([truth for each in lists for truth in each.relevant], dtype=bool)
        positives, count = int(truths.sum()), len(truths)
        logits.append(np.array([logit for each in lists for logit in each.logits], dtype=np.float64))
        outcomes.append(truths)
        if relevant_share is None or positives in (0, count):
            weights.append(np.full(count, 1 / max(count, 1)))
        else:
            weights.append(np.where(truths, relevant_share / positives, (1 - relevant_share) / (count - positives)))
    return Pairs(*map(np.concatenate, (logits, outcomes, weights)))


def score_figures(
    lists: Mapping[str, Sequence[JudgedList]], before: Line, relevant_share: float | None
) -> tuple[dict[str, ScoreFigures], ScoreFigures]:
    """Measure scores by two-fold cross-validation, in which every second query is left out.

    Args:
        lists: Lists of each collection.
        before: Slope and intercept of the checkpoint as it was.
        relevant_share: See `pairs_of`.

    Returns:
        Figures of each collection, and of all of them.
    """
    folds = [{name: own[start::_FOLDS] for name, own in lists.items()} for start in range(_FOLDS)]
    lines = [fit_calibration(*pairs_of(fold.values(), relevant_share)) for fold in folds]
    measured = [(fold, line) for fold, line in zip(folds, reversed(lines), strict=True)]
    figures = {
        name: figures_of([([fold[name]], line) for fold, line in measured if fold[name]], before, relevant_share)
        for name, own in lists.items()
        if own
    }
    return figures, figures_of([([*fold.values()], line) for fold, line in measured], before, relevant_share)


def figures_of(
    parts: Sequence[tuple[Sequence[Sequence[JudgedList]], Line]], before: Line, relevant_share: float | None
) -> ScoreFigures:
    """Measure scores.

    Args:
        parts: Lists of some collections, with the slope and intercept of their scores.
        before: Slope and intercept to compare with.
        relevant_share: See `pairs_of`.

    Returns:
        Figures of all parts.
    """
    pairs = [pairs_of(collections, relevant_share) for collections, _ in parts]
    old = np.array([score for part in pairs for score in probabilities(part.logits.tolist(), before)])
    new = np.array(
        [
            score
            for part, (_, line) in zip(pairs, parts, strict=True)
            for score in probabilities(part.logits.tolist(), line)
        ]
    )
    truths, weights = (np.concatenate([part[column] for part in pairs]) for column in (1, 2))
    chosen = new >= _THRESHOLD
    found = (weights * (chosen & truths)).sum()
    with np.errstate(invalid="ignore"):
        precision, recall = found / (weights * chosen).sum(), found / (weights * truths).sum()
    return ScoreFigures(
        num_queries=sum(map(len, chain.from_iterable(collections for collections, _ in parts))),
        num_pairs=len(truths),
        error_before=expected_calibration_error(old, truths, weights=weights),
        error_after=expected_calibration_error(new, truths, weights=weights),
        precision=float(precision),
        recall=float(recall),
        area=area_under_curve(new, truths),
    )
