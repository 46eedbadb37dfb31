"""Scores of labels, and the choice of those that apply."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gliclass_rerank.model.probability import probabilities, softmax
from gliclass_rerank.types import LabelScore

LongTexts = Literal["cut", "max", "mean"]


@dataclass(frozen=True)
class LabelChoice:
    """Choice of labels by their scores.

    Attributes:
        multi_label: Any number of labels may apply, else exactly one.
        threshold: Minimum score, if any number may.
        pooling: Pooling of a text's chunks.
        calibration: `ModelConfig.label_calibration`.
    """

    multi_label: bool
    threshold: float
    pooling: LongTexts
    calibration: tuple[float, float, float] | None

    def scores(self, chunks: Sequence[Sequence[float]]) -> list[float]:
        """Pool the scores of a text's chunks; `chunks` holds the logits of each."""
        rows = [label_scores(logits, self.calibration) if self.multi_label else softmax(logits) for logits in chunks]
        return pooled(rows, self.pooling, exactly_one=not self.multi_label)

    def chosen(self, labels: Sequence[str], scores: Sequence[float]) -> list[LabelScore]:
        """Labels that apply, in their order."""
        return chosen_labels(labels, scores, multi_label=self.multi_label, threshold=self.threshold)


def chosen_labels(
    labels: Sequence[str], scores: Sequence[float], *, multi_label: bool, threshold: float
) -> list[LabelScore]:
    """Choose the labels that apply, in their order.

    Args:
        labels: Labels of a text.
        scores: Score of each.
        multi_label: Any number of labels may apply; else the best one does, the first of equals.
        threshold: Minimum score, if any number may.

    Returns:
        The labels with their scores.
    """
    every = [LabelScore(label, score, index) for index, (label, score) in enumerate(zip(labels, scores, strict=True))]
    if multi_label:
        return [each for each in every if each.score >= threshold]
    return [max(every, key=lambda each: (each.score, -each.index))] if every else []


def pooled(rows: Sequence[Sequence[float]], pooling: LongTexts, *, exactly_one: bool) -> list[float]:
    """Pool the label scores of a text's chunks.

    Args:
        rows: Scores of each chunk, in label order; one row is the result itself.
        pooling: `"max"`, or `"mean"`.
        exactly_one: Scale the result to a sum of 1.

    Returns:
        One score per label.
    """
    if len(rows) == 1:
        return list(rows[0])
    scores = [max(each) if pooling == "max" else math.fsum(each) / len(each) for each in zip(*rows, strict=True)]
    total = math.fsum(scores)
    return [score / total for score in scores] if exactly_one and total else scores


def label_scores(logits: Sequence[float], calibration: tuple[float, float, float] | None) -> list[float]:
    """Convert the logits of a text's labels, any number of which may apply, to scores.

    Args:
        logits: Logit of each label.
        calibration: `ModelConfig.label_calibration`.

    Returns:
        Probability of each label, in [0, 1].
    """
    if calibration is None:
        return probabilities(logits)
    slope, intercept, absent = calibration
    return probabilities(label_margins(logits, absent), (slope, intercept))


def label_margins(logits: Sequence[float], absent: float) -> list[float]:
    """Compute the margin of each label over the best other one.

    Args:
        logits: Logit of each label.
        absent: Logit that stands in for the other label where there is none.

    Returns:
        One margin per label.
    """
    if len(logits) < 2:
        return [logit - absent for logit in logits]
    second, best = sorted(logits)[-2:]
    return [logit - (second if logit == best else best) for logit in logits]
