"""Conversion of labelled records to judged examples of other records."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, TypeVar

import numpy as np

from gliclass_rerank.learn.training.records import ClassificationRecord, RankingRecord
from gliclass_rerank.learn.training.source_config import Unjudged
from gliclass_rerank.types import Example

_Value = TypeVar("_Value")

# Passages are long, so one of each sort suffices; labels are short, and all that apply belong together.
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
    """Make an example of a record: a query with some passages, or a text with labels.

    Args:
        record: Record; its own examples are ignored.
        rng: Generator of the selection.
        max_true: Maximum relevant passages or true labels; None for 1 passage, or all labels.
        max_false: Maximum irrelevant passages or false labels; None for 1 passage, or 3 labels.
        unjudged: Ignore ungraded passages, or count them as irrelevant beside a relevant one.

    Returns:
        The example, without labels if nothing is known about the record.
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
    """Relevant and irrelevant passages or labels of a record, each once; relevant wins among duplicates."""
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
    """Random sample without replacement, in random order; all values if there are at most `count`."""
    chosen = rng.permutation(len(values))[: max(0, count)]
    return [values[place] for place in chosen.tolist()]
