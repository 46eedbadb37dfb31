import math

import numpy as np
import pytest

from gliclass_rerank.learn.training.examples import example_of, judgement
from gliclass_rerank.learn.training.records import ClassificationRecord, RankingRecord
from gliclass_rerank.types import Example

RANKED = RankingRecord("file:1", "q", ("a", "b", "c", "d", "a"), (1.0, 0.0, math.nan, 2.0, 0.0))
CLASSIFIED = ClassificationRecord("file:1", "t", ("y", "x"), ("v", "w", "x", "y", "z", "u"))


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    ("record", "unjudged", "expected"),
    [
        (RANKED, "ignore", (["a", "d"], ["b"])),
        (RANKED, "negative", (["a", "d"], ["b", "c"])),
        (RankingRecord("file:1", "q", ("a", "b"), (math.nan, 0.0)), "negative", ([], ["b"])),
        (CLASSIFIED, "ignore", (["y", "x"], ["v", "w", "z", "u"])),
    ],
)
def test_what_is_known_of_a_record(record, unjudged, expected):
    assert judgement(record, unjudged) == expected


def test_an_example_of_a_ranking_shows_one_passage_of_either_sort():
    shown = {
        (example_of(RANKED, rng(seed)).true_labels, example_of(RANKED, rng(seed)).false_labels) for seed in range(9)
    }
    assert shown == {(("a",), ("b",)), (("d",), ("b",))}


def test_an_example_of_a_classification_shows_all_that_applies_and_three_others():
    shown = [example_of(CLASSIFIED, rng(seed)) for seed in range(9)]
    assert {example.true_labels for example in shown} == {("y", "x")}
    assert {len(example.false_labels) for example in shown} == {3}
    assert {label for example in shown for label in example.false_labels} == {"v", "w", "z", "u"}


@pytest.mark.parametrize("record", [RANKED, CLASSIFIED])
def test_how_much_is_shown_can_be_chosen(record):
    example = example_of(record, rng(), max_true=1, max_false=0)
    assert len(example.true_labels) == 1
    assert example.false_labels == ()
    assert example_of(RANKED, rng(), max_true=9, max_false=9, unjudged="negative") == Example(
        "q", *map(tuple, drawn_order(RANKED))
    )


def drawn_order(record):
    generator = rng()
    return [[part[place] for place in generator.permutation(len(part))] for part in judgement(record, "negative")]
