"""Calibration of a checkpoint's scores on judged passages."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Final

import numpy as np
import torch

from gliclass_rerank.cascade import Cascade, copy_cascade, load_ranker
from gliclass_rerank.checkpoint.loading import load_checkpoint, save_checkpoint
from gliclass_rerank.checkpoint.location import locate
from gliclass_rerank.errors import CheckpointError, DataError, listed
from gliclass_rerank.learn.evaluation.calibration import fit_calibration
from gliclass_rerank.learn.evaluation.collection import Collection
from gliclass_rerank.learn.training.calibrating_labels import fit_labels
from gliclass_rerank.learn.training.judged import JudgedList, Line, ScoreFigures, pairs_of, score_figures
from gliclass_rerank.learn.training.records import ClassificationRecord
from gliclass_rerank.model.probability import Calibration
from gliclass_rerank.pipeline import Pipeline
from gliclass_rerank.prompt.layout import ScoringRequest
from gliclass_rerank.settings import RerankerSettings

# Of `answerable`: as many lists with an answer as without.
_ANSWERABLE_SHARE: Final = 0.5


@dataclass(frozen=True)
class CalibrationReport:
    """Result of a calibration; figures are of queries left out, by two-fold cross-validation.

    Attributes:
        score: Slope (above 0) and intercept of scores.
        answerable: Slope and intercept of `Ranking.answerable`; None if all lists, or none, hold an answer.
        unseen: Slope and intercept of a cascade's `unseen_calibration`; None for other checkpoints.
        figures: Figures of scores by collection.
        overall: Figures of scores in all collections.
        answerable_figures: Figures of `Ranking.answerable` by collection, where a list without its relevant passages is
            one without an answer; empty without it.
        label_figures: Figures of labels by set; empty without sets.
    """

    score: Line
    answerable: Line | None
    unseen: Line | None
    figures: Mapping[str, ScoreFigures]
    overall: ScoreFigures
    answerable_figures: Mapping[str, ScoreFigures]
    label_figures: Mapping[str, ScoreFigures] = field(default_factory=dict)


def calibrate(
    model: Path | str,
    collections: Sequence[Collection],
    target: Path | str,
    *,
    labels: Mapping[str, Sequence[ClassificationRecord]] | None = None,
    relevant_share: float | None = None,
    weights_dtype: torch.dtype | None = None,
    on_ranked: Callable[[int], object] | None = None,
) -> CalibrationReport:
    """Fit calibrations and write the checkpoint or cascade with them.

    Collections count the same, whatever their sizes. Unjudged passages count as irrelevant, so scores are probabilities
    of a relevant judgment among such candidates.

    Args:
        model: Checkpoint; its calibrations are replaced.
        collections: Judged collections with at least two queries, not those of final evaluation.
        target: New folder.
        labels: Labelled texts by set, for the calibration of labels; None keeps the checkpoint's. Not for a cascade,
            which does not classify.
        relevant_share: Share of candidates taken to be relevant in each collection, in (0, 1), where judgments name
            only some of them; None for the share of the judgments.
        weights_dtype: Precision of the file; None for float32. A cascade's files are copied.
        on_ranked: Callback after each query with its number of candidates.

    Returns:
        The calibrations and their figures.

    Raises:
        CheckpointError: `target` exists, or the model cannot be loaded.
        DataError: Too few queries, only one outcome, or logits that do not rise with relevance.
    """
    if Path(target).exists():  # before anything is scored
        raise CheckpointError(f"`{target}` exists already; checkpoints are never overwritten")
    scorer = load_ranker(RerankerSettings(model))
    if labels and isinstance(scorer, Cascade):
        raise CheckpointError(f"a cascade has no labels to calibrate, got {listed([scorer.name])}")
    lists = {each.name: _judged_lists(scorer, each, on_ranked) for each in collections}
    report = fit(lists, scorer.calibration, relevant_share)
    fitted = partial(dataclasses.replace, score_calibration=report.score, answerable_calibration=report.answerable)
    if isinstance(scorer, Cascade):
        copy_cascade(locate(model), target, fitted(scorer.config, unseen_calibration=report.unseen))
        return report
    checkpoint = load_checkpoint(model)
    config = fitted(checkpoint.config)
    if labels:
        of_labels = fit_labels(model, labels)
        config = dataclasses.replace(config, label_calibration=of_labels.label_calibration)
        report = dataclasses.replace(report, label_figures=of_labels.figures)
    save_checkpoint(dataclasses.replace(checkpoint, config=config), target, weights_dtype=weights_dtype)
    return report


def fit(
    lists: Mapping[str, Sequence[JudgedList]], before: Calibration, relevant_share: float | None = None
) -> CalibrationReport:
    """Fit calibrations on lists of logits.

    Args:
        lists: Judged lists by collection.
        before: Calibration of the checkpoint as it was.
        relevant_share: As for `calibrate`.

    Returns:
        The calibrations and their figures.

    Raises:
        DataError: Too few queries, only one outcome, or logits that do not rise with relevance.
    """
    if (num_queries := sum(map(len, lists.values()))) < 2:
        raise DataError(f"calibration needs at least two judged queries, got {num_queries}")
    score = fit_calibration(*pairs_of(lists.values(), relevant_share))
    figures, overall = score_figures(lists, before.score or (1.0, 0.0), relevant_share)
    bests = {name: [best_logits(each) for each in own] for name, own in lists.items()}
    answerable, answerable_figures = None, dict[str, ScoreFigures]()
    if len({truth for own in bests.values() for each in own for truth in each.relevant}) == 2:
        answerable = fit_calibration(*pairs_of(bests.values(), _ANSWERABLE_SHARE))
        old = before.answerable or (1.0, 0.0)
        answerable_figures, _ = score_figures(bests, old, _ANSWERABLE_SHARE)
    unseen = _expected_mixture(chain.from_iterable(lists.values()))
    return CalibrationReport(score, answerable, unseen, figures, overall, answerable_figures)


def _judged_lists(
    scorer: Pipeline | Cascade, collection: Collection, on_ranked: Callable[[int], object] | None
) -> list[JudgedList]:
    lists = []
    for query_id, query in collection.queries.items():
        doc_ids, grades = collection.candidates[query_id], collection.qrels[query_id]
        requests = [ScoringRequest(query, [collection.passages[doc_id] for doc_id in doc_ids])]
        (scored,) = scorer.score(requests, truncate_side="candidates")
        first: list[float] = []
        if isinstance(scorer, Cascade) and len(doc_ids) <= scorer.config.rerank_depth:
            ((first, *_),) = scorer.first.score(requests, truncate_side="candidates")
        lists.append(JudgedList(scored.logits, [grades.get(doc_id, 0) > 0 for doc_id in doc_ids], first))
        if on_ranked is not None:
            on_ranked(len(doc_ids))
    return lists


def best_logits(judged: JudgedList) -> JudgedList:
    """Best logit of a list, and of the list without its relevant passages, with whether either list has an answer."""
    rest = [logit for logit, is_relevant in zip(judged.logits, judged.relevant, strict=True) if not is_relevant]
    has_answer = len(rest) < len(judged.logits)
    return JudgedList(
        [*([max(judged.logits)] if has_answer else []), *([max(rest)] if rest else [])],
        [*([True] if has_answer else []), *([False] if rest else [])],
    )


def _expected_mixture(lists: Iterable[JudgedList]) -> Line | None:
    """Least squares from the first checkpoint's logits to the mixture; None without lists that were rescored whole."""
    rescored = [each for each in lists if each.first]
    if not rescored:
        return None
    first, mixture = (np.concatenate([each[column] for each in rescored]) for column in (2, 0))
    slope, intercept = np.polyfit(first, mixture, 1)
    return float(slope), float(intercept)
