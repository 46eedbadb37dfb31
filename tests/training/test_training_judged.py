"""Weights of judged lists, and the figures of their scores."""

import numpy as np
import pytest

from gliclass_rerank.learn.training.calibrating import fit
from gliclass_rerank.learn.training.judged import JudgedList, pairs_of
from gliclass_rerank.model.probability import Calibration


def lists(*, num_lists, relevant, irrelevant, seed=0):
    """Lists of one relevant candidate among three, with normally distributed logits."""
    rng = np.random.default_rng(seed)
    return [
        JudgedList([rng.normal(relevant, 2), *rng.normal(irrelevant, 2, 3)], [True, False, False, False])
        for _ in range(num_lists)
    ]


def test_collections_weigh_the_same_and_relevant_candidates_their_share():
    pairs = pairs_of([lists(num_lists=2, relevant=1, irrelevant=0), lists(num_lists=9, relevant=1, irrelevant=0)], 0.5)

    assert pairs.weights[:8].sum() == pytest.approx(1)
    assert pairs.weights[8:].sum() == pytest.approx(1)
    assert pairs.weights[pairs.outcomes].sum() == pytest.approx(1)


def test_without_a_share_the_judgments_decide():
    pairs = pairs_of([lists(num_lists=5, relevant=1, irrelevant=0)], None)

    assert set(pairs.weights) == {1 / 20}


def test_scores_of_a_half_are_where_both_outcomes_are_as_likely():
    report = fit({"one": lists(num_lists=400, relevant=5, irrelevant=-1)}, Calibration(), 0.5)
    slope, intercept = report.score

    assert -intercept / slope == pytest.approx(2.0, abs=0.3)
    assert report.overall.error_after < 0.05 < report.overall.error_before
    assert min(report.overall.precision, report.overall.recall, report.overall.area) > 0.9


def test_a_list_without_its_relevant_candidates_has_no_answer():
    report = fit({"one": lists(num_lists=400, relevant=5, irrelevant=-1)}, Calibration(), 0.5)
    slope, intercept = report.answerable

    # The best of three irrelevant ones is about 0.7, the best of all four about 5.
    assert 1 < -intercept / slope < 4
    assert report.answerable_figures["one"].num_queries == 400
    assert report.answerable_figures["one"].area > 0.9


def test_a_collection_with_one_outcome_only_takes_part_too():
    only = [JudgedList([5.0, 1.0], [True, True]), JudgedList([4.0, 0.0], [True, True])]
    report = fit({"mixed": lists(num_lists=40, relevant=5, irrelevant=-1), "all": only}, Calibration(), 0.5)

    assert report.figures["all"].num_pairs == 4
    assert np.isnan(report.figures["all"].area)
    assert report.answerable is not None


def test_what_a_second_look_is_expected_to_give_is_a_line():
    rng = np.random.default_rng(2)
    cascade = []
    for _ in range(20):
        first = np.sort(rng.normal(0, 3, 4))[::-1]
        cascade.append(JudgedList((1.5 * first - 2).tolist(), [True, False, False, False], first.tolist()))

    assert fit({"one": cascade}, Calibration()).unseen == pytest.approx((1.5, -2.0), abs=1e-9)
    assert fit({"one": lists(num_lists=5, relevant=5, irrelevant=-1)}, Calibration()).unseen is None
