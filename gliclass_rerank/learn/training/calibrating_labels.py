"""Calibration of a classifier's labels on labelled texts."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Final

import numpy as np

from gliclass_rerank.classifier import ZeroShotClassifier
from gliclass_rerank.errors import DataError
from gliclass_rerank.learn.evaluation.calibration import expected_calibration_error, fit_calibration
from gliclass_rerank.learn.training.judged import JudgedList, ScoreFigures, pairs_of, score_figures
from gliclass_rerank.learn.training.records import ClassificationRecord
from gliclass_rerank.model.label_scores import label_margins
from gliclass_rerank.model.probability import probabilities

# Labels shown with a text: a text's own, and others drawn at random up to a number between these.
_FEWEST: Final = 2
_MOST: Final = 10


@dataclass(frozen=True)
class LabelReport:
    """Result of a calibration of labels.

    Attributes:
        label_calibration: Value of `ModelConfig.label_calibration`.
        figures: Figures of each set, on texts left out of the fit, by two-fold cross-validation; before, a score was
            the sigmoid of the logit.
    """

    label_calibration: tuple[float, float, float]
    figures: Mapping[str, ScoreFigures]


def fit_labels(
    model: Path | str,
    sets: Mapping[str, Sequence[ClassificationRecord]],
    *,
    on_classified: Callable[[int], object] | None = None,
) -> LabelReport:
    """Fit the calibration of labels.

    Sets count the same. Each text is shown its own labels among random ones of its set, two to ten in all.

    Args:
        model: Checkpoint.
        sets: Labelled texts by name.
        on_classified: Callback after each text, with 1.

    Returns:
        The calibration and its figures.

    Raises:
        CheckpointError: The checkpoint cannot be loaded, or is a cascade.
        DataError: Too few texts, only one outcome, or logits that do not rise with relevance.
    """
    classifier, raw = ZeroShotClassifier(model), dict[str, list[JudgedList]]()
    for name, records in sets.items():
        raw[name] = []
        for labels, record in zip(_shown(name, records), records, strict=True):
            logits = classifier.logits(record.text, labels)
            raw[name].append(JudgedList(logits, [label in record.labels for label in labels]))
            if on_classified is not None:
                on_classified(1)
    wrong = [[max(rest) for each in lists if (rest := _wrong(each))] for lists in raw.values()]
    if not any(wrong):
        raise DataError("calibration of labels needs texts with wrong labels, got none")
    absent = float(np.mean([np.mean(logits) for logits in wrong if logits]))
    lists = {
        name: [JudgedList(label_margins(each.logits, absent), each.relevant) for each in own]
        for name, own in raw.items()
    }
    slope, intercept = fit_calibration(*pairs_of(lists.values(), None))
    figures, _ = score_figures(lists, (1.0, 0.0), None)
    return LabelReport(
        (slope, intercept, absent),
        {name: replace(each, error_before=_raw_error(raw[name])) for name, each in figures.items()},
    )


def _shown(name: str, records: Sequence[ClassificationRecord]) -> list[list[str]]:
    """Labels to show with each text; the same for the same name and texts."""
    rng, drawn = random.Random(name), []
    for record in records:
        others = [label for label in record.all_labels if label not in record.labels]
        count = max(rng.randint(_FEWEST, _MOST) - len(record.labels), 0)
        labels = [*record.labels, *rng.sample(others, min(count, len(others)))]
        rng.shuffle(labels)
        drawn.append(labels)
    return drawn


def _wrong(each: JudgedList) -> list[float]:
    return [logit for logit, is_true in zip(each.logits, each.relevant, strict=True) if not is_true]


def _raw_error(lists: Sequence[JudgedList]) -> float:
    scores = probabilities([*chain.from_iterable(each.logits for each in lists)])
    return expected_calibration_error(scores, [*chain.from_iterable(each.relevant for each in lists)])
