"""Makes a checkpoint's scores mean something: fits slope and intercept on judged passages."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import torch

from gliclass_rerank.cascade import Cascade, copy_cascade, load_ranker
from gliclass_rerank.checkpoint.loading import load_checkpoint, save_checkpoint
from gliclass_rerank.checkpoint.location import locate
from gliclass_rerank.errors import CheckpointError, DataError
from gliclass_rerank.learn.evaluation.calibration import expected_calibration_error, fit_calibration
from gliclass_rerank.learn.evaluation.collection import Collection
from gliclass_rerank.pipeline import Pipeline, probabilities
from gliclass_rerank.prompt.layout import ScoringRequest
from gliclass_rerank.settings import RerankerSettings

Pairs = list[tuple[float, bool]]


@dataclass(frozen=True)
class CalibrationReport:
    """What a calibration gave.

    Attributes:
        slope: Of the logit; above 0.
        intercept: Added to it.
        num_queries: Queries it was fitted on.
        num_pairs: Their candidates.
        error_before: Expected calibration error of the logits' sigmoids, in [0, 1].
        error_after: The same with calibration, of queries that it was not fitted on: the mean of two folds.
    """

    slope: float
    intercept: float
    num_queries: int
    num_pairs: int
    error_before: float
    error_after: float


def calibrate(
    model: Path | str,
    collections: Sequence[Collection],
    target: Path | str,
    *,
    weights_dtype: torch.dtype | None = None,
    on_ranked: Callable[[int], object] | None = None,
) -> CalibrationReport:
    """Fit a calibration on judged passages and write the checkpoint, or the cascade, with it.

    A passage without judgment counts as irrelevant, so the scores are probabilities of what the judgments call
    relevant, among candidates like these.

    Args:
        model: The checkpoint; a calibration that it has is replaced.
        collections: Queries with candidates and judgments, at least two queries in all; not those that will be
            reported on.
        target: Folder to write; must not exist.
        weights_dtype: Precision of the written file; None is float32. A cascade's files are copied as they are.
        on_ranked: Called after each query with its number of candidates; for a progress bar.

    Returns:
        The calibration and how well it does.

    Raises:
        CheckpointError: `target` exists, or the model cannot be loaded.
        DataError: Too few queries, only one outcome, or logits that do not rise with relevance.
    """
    if Path(target).exists():  # before anything is scored
        raise CheckpointError(f"`{target}` exists already; checkpoints are never overwritten")
    scorer = load_ranker(RerankerSettings(model))
    queries = [pairs for collection in collections for pairs in _judged_logits(scorer, collection, on_ranked)]
    if len(queries) < 2:
        raise DataError(f"calibration needs at least two judged queries, got {len(queries)}")
    everything = list(chain.from_iterable(queries))
    slope, intercept = _fit(everything)
    report = CalibrationReport(
        slope=slope,
        intercept=intercept,
        num_queries=len(queries),
        num_pairs=len(everything),
        error_before=_error(everything, 1.0, 0.0),
        error_after=_crossed_error(queries),
    )
    if isinstance(scorer, Cascade):
        copy_cascade(locate(model), target, score_calibration=(slope, intercept))
        return report
    checkpoint = load_checkpoint(model)
    config = dataclasses.replace(checkpoint.config, score_calibration=(slope, intercept))
    save_checkpoint(dataclasses.replace(checkpoint, config=config), target, weights_dtype=weights_dtype)
    return report


def _judged_logits(
    scorer: Pipeline | Cascade, collection: Collection, on_ranked: Callable[[int], object] | None
) -> list[Pairs]:
    queries = []
    for query_id, query in collection.queries.items():
        doc_ids = collection.candidates[query_id]
        request = ScoringRequest(query, [collection.passages[doc_id] for doc_id in doc_ids])
        (scored,) = scorer.score([request], truncate_side="candidates")
        grades = collection.qrels[query_id]
        queries.append(
            [(logit, grades.get(doc_id, 0) > 0) for doc_id, logit in zip(doc_ids, scored.logits, strict=True)]
        )
        if on_ranked is not None:
            on_ranked(len(doc_ids))
    return queries


def _crossed_error(queries: Sequence[Pairs]) -> float:
    """Each half of the queries measured with the other half's calibration."""
    halves = [list(chain.from_iterable(queries[start::2])) for start in (0, 1)]
    errors = [_error(measured, *_fit(fitted)) for fitted, measured in (halves, halves[::-1])]
    return sum(errors) / len(errors)


def _fit(pairs: Pairs) -> tuple[float, float]:
    return fit_calibration([logit for logit, _ in pairs], [outcome for _, outcome in pairs])


def _error(pairs: Pairs, slope: float, intercept: float) -> float:
    scores = probabilities([logit for logit, _ in pairs], (slope, intercept))
    return expected_calibration_error(scores, [outcome for _, outcome in pairs])
