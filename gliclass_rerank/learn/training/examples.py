"""A labelled record as an example for another one: what of it is shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, TypeVar

import numpy as np

from gliclass_rerank.learn.training.config import Unjudged
from gliclass_rerank.learn.training.records import ClassificationRecord, RankingRecord
from gliclass_rerank.types import Example

_Value = TypeVar("_Value")

# A passage is long, so one of each sort says what was wanted; labels are short, and all that apply belong together.
PASSAGES_SHOWN: Final = 1
FALSE_LABELS_SHOWN: Final = 3


def example_of(
    record: RankingRecord | ClassificationRecord,
    rng: np.random.Generator,
    *,
    max_true: int | None = None,
    max_false: int | None = None,
    unjudged: Unjudged = "ignore",
) -> Example:
    """Make an example of a record: a query with some of its passages, or a text with its labels.

    Args:
        record: The record; its own examples are not looked at.
        rng: Draws what is shown where there is more.
        max_true: How many relevant passages, or labels that apply; None for 1 passage, or all labels.
        max_false: How many irrelevant passages, or labels that do not apply; None for 1 passage, or 3 labels.
        unjudged: Passages without a grade are left out, or taken for irrelevant where another one is relevant.

    Returns:
        The example; it has no labels at all if nothing is known about the record.
    """
    true, false = judgement(record, unjudged)
    if isinstance(record, RankingRecord):
        shown = drawn(true, PASSAGES_SHOWN if max_true is None else max_true, rng)
        return Example(
            record.query, tuple(shown), tuple(drawn(false, PASSAGES_SHOWN if max_false is None else max_false, rng))
        )
    shown = true if max_true is None else drawn(true, max_true, rng)
    return Example(
        record.text, tuple(shown), tuple(drawn(false, FALSE_LABELS_SHOWN if max_false is None else max_false, rng))
    )


def judgement(
    record: RankingRecord | ClassificationRecord, unjudged: Unjudged = "ignore"
) -> tuple[list[str], list[str]]:
    """What is known to apply to a record and what not, each passage or label once.

    Args:
        record: The record.
        unjudged: As for `example_of`.

    Returns:
        Relevant passages or labels, and irrelevant ones, in the record's order. A passage that comes twice is relevant
        if either is.
    """
    if isinstance(record, ClassificationRecord):
        return list(record.labels), [label for label in record.all_labels if label not in record.labels]
    graded = list(zip(record.passages, record.grades, strict=True))
    true = dict.fromkeys(passage for passage, grade in graded if grade > 0)
    takes_unjudged = unjudged == "negative" and bool(true)
    false = dict.fromkeys(
        passage
        for passage, grade in graded
        if passage not in true and (grade <= 0 or (takes_unjudged and math.isnan(grade)))
    )
    return list(true), list(false)


def drawn(values: Sequence[_Value], count: int, rng: np.random.Generator) -> list[_Value]:
    """A random choice without repetition, in random order; all values if there are no more than `count`."""
    chosen = rng.permutation(len(values))[: max(0, count)]
    return [values[place] for place in chosen.tolist()]
