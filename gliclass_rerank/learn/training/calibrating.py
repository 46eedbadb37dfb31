"""Calibration of a checkpoint's scores on judged passages."""

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
    """Result of a calibration.

    Attributes:
        slope: Factor of the logit; above 0.
        intercept: Offset of the logit.
        num_queries: Queries fitted on.
        num_pairs: Their candidates.
        error_before: Expected calibration error of uncalibrated scores, in [0, 1].
        error_after: Expected calibration error by two-fold cross-validation.
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
    """Fit a calibration and write the checkpoint or cascade with it.

    Unjudged passages count as irrelevant, so scores are probabilities of a relevant judgment among such candidates.

    Args:
        model: Checkpoint; its calibration is replaced.
        collections: Judged collections with at least two queries, not those of final evaluation.
        target: New folder.
        weights_dtype: Precision of the file; None for float32. A cascade's files are copied.
        on_ranked: Callback after each query with its number of candidates.

    Returns:
        The calibration and its errors.

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
    """Two-fold cross-validated calibration error."""
    halves = [list(chain.from_iterable(queries[start::2])) for start in (0, 1)]
    errors = [_error(measured, *_fit(fitted)) for fitted, measured in (halves, halves[::-1])]
    return sum(errors) / len(errors)


def _fit(pairs: Pairs) -> tuple[float, float]:
    return fit_calibration([logit for logit, _ in pairs], [outcome for _, outcome in pairs])


def _error(pairs: Pairs, slope: float, intercept: float) -> float:
    scores = probabilities([logit for logit, _ in pairs], (slope, intercept))
    return expected_calibration_error(scores, [outcome for _, outcome in pairs])
