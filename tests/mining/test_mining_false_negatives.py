import math

import pytest

from gliclass_rerank.errors import ConfigError
from gliclass_rerank.learn.data.false_negatives import FalseNegatives, comparable, shingles

POSITIVE = "A brake that squeals needs its pads cleaned with alcohol and sanded a little."


@pytest.mark.parametrize(
    ("candidate", "is_repeat"),
    [
        (POSITIVE.upper(), True),
        (f"From the handbook: {POSITIVE} Then wait.", True),  # holds it
        ("needs its pads cleaned with alcohol", True),  # a part of it
        (POSITIVE.replace("little", "bit"), True),
        ("A brake that squeals needs new pads, and a chain that squeals needs oil.", False),
        ("Something else entirely.", False),
    ],
)
def test_near_duplicates_of_a_positive_are_told(candidate, is_repeat):
    assert FalseNegatives().repeats(candidate, [shingles("no such words"), shingles(POSITIVE)]) is is_repeat


def test_short_texts_are_compared_as_a_whole():
    assert shingles("Two Words") == {("two", "words")}
    assert FalseNegatives().repeats("two words", [shingles("Two words")])
    assert not FalseNegatives().repeats("two", [shingles("Two words")])
    assert not FalseNegatives().repeats("", [shingles("Two words")])


def test_duplicates_can_be_kept():
    assert not FalseNegatives(duplicate_share=None).repeats(POSITIVE, [shingles(POSITIVE)])


def test_the_limit_is_a_share_of_the_best_positive():
    filtering = FalseNegatives(score_share=0.9)
    assert filtering.score_limit([0.5, 0.7], is_logit=False) == pytest.approx(0.63)
    assert filtering.score_limit([-2.0, 0.0], is_logit=True) == pytest.approx(0.45)
    assert filtering.score_limit([], is_logit=False) == math.inf
    assert FalseNegatives().score_limit([0.5], is_logit=False) == math.inf


def test_logits_become_probabilities_without_overflow():
    assert comparable(1000.0, is_logit=True) == 1
    assert comparable(-1000.0, is_logit=True) == 0
    assert comparable(2.0, is_logit=True) == pytest.approx(0.8807971)
    assert comparable(-3.5, is_logit=False) == -3.5


@pytest.mark.parametrize("settings", [{"duplicate_share": 0}, {"score_share": 1.2}])
def test_shares_out_of_range_are_refused(settings):
    with pytest.raises(ConfigError, match="must be above 0 and at most 1"):
        FalseNegatives(**settings)
