import numpy as np
import pytest

from gliclass_rerank.errors import DataError
from gliclass_rerank.learn.evaluation.calibration import (
    area_under_curve,
    expected_calibration_error,
    fit_calibration,
    fit_logistic,
)


def sigmoid(values):
    return 1 / (1 + np.exp(-values))


def drawn(slope, intercept, *, count=20_000, seed=0):
    """Logits, and outcomes that come true as slope and intercept say."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-2, 3, count)
    return logits, rng.random(count) < sigmoid(slope * logits + intercept)


def test_the_error_is_the_gap_between_scores_and_outcomes_weighed_by_bins():
    scores, outcomes = [0.9, 0.9, 0.9, 0.9, 0.1], [True, True, True, False, False]
    assert expected_calibration_error(scores, outcomes, num_bins=10) == pytest.approx(4 / 5 * 0.15 + 1 / 5 * 0.1)


@pytest.mark.parametrize(("score", "outcome", "error"), [(1.0, True, 0.0), (1.0, False, 1.0), (0.0, True, 1.0)])
def test_the_error_covers_the_ends(score, outcome, error):
    assert expected_calibration_error([score], [outcome]) == error


@pytest.mark.parametrize(("slope", "intercept"), [(1.0, 0.0), (0.3, -1.0), (4.0, 5.0)])
def test_a_fit_finds_the_line_that_made_the_outcomes(slope, intercept):
    logits, outcomes = drawn(slope, intercept)
    found = fit_calibration(logits, outcomes)
    assert found == pytest.approx((slope, intercept), rel=0.1, abs=0.1)
    before = expected_calibration_error(sigmoid(logits), outcomes)
    after = expected_calibration_error(sigmoid(found[0] * logits + found[1]), outcomes)
    assert after < 0.02
    assert after <= before + 0.005


def test_a_fit_is_a_minimum_of_the_loss():
    logits, outcomes = drawn(0.7, 0.4, count=300)
    positives = outcomes.sum()
    targets = np.where(outcomes, (positives + 1) / (positives + 2), 1 / (len(outcomes) - positives + 2))
    slope, intercept = fit_calibration(logits, outcomes)
    residuals = sigmoid(slope * logits + intercept) - targets
    assert abs(residuals.sum()) < 1e-3
    assert abs((residuals * logits).sum()) < 1e-3


def test_a_fit_does_not_depend_on_the_scale_of_the_logits():
    logits, outcomes = drawn(1.0, 0.5, count=500)
    slope, intercept = fit_calibration(logits, outcomes)
    scaled = fit_calibration(1000 * logits + 7, outcomes)
    assert scaled[0] * 1000 == pytest.approx(slope, rel=1e-6)
    assert scaled[0] * 7 + scaled[1] == pytest.approx(intercept, rel=1e-5)


def test_classes_that_do_not_overlap_keep_a_finite_slope():
    slope, intercept = fit_calibration([-9.0, -8.0, 8.0, 9.0], [False, False, True, True])
    assert 0 < slope < 10
    assert abs(intercept) < 10


@pytest.mark.parametrize("outcome", [True, False])
def test_one_outcome_is_not_enough(outcome):
    with pytest.raises(DataError, match="needs relevant and irrelevant passages"):
        fit_calibration([1.0, 2.0], [outcome, outcome])


@pytest.mark.parametrize("logits", [[2.0, 1.0, 0.0, -1.0], [1.0, 1.0, 1.0, 1.0]])
def test_logits_that_do_not_rise_with_relevance_are_refused(logits):
    with pytest.raises(DataError, match="rise with relevance, got a slope of"):
        fit_calibration(logits, [False, False, True, True])


def test_weights_count_as_repetitions_in_error_and_fit():
    logits, outcomes = drawn(0.7, -0.5, count=4000)
    times = np.where(outcomes, 3, 1)
    repeated = np.repeat(logits, times), np.repeat(outcomes, times)

    weighted = expected_calibration_error(sigmoid(logits), outcomes, weights=times)
    assert weighted == pytest.approx(expected_calibration_error(sigmoid(repeated[0]), repeated[1]))
    # Smoothing goes by the number of pairs, so that the two differ a little.
    assert fit_calibration(logits, outcomes, times) == pytest.approx(fit_calibration(*repeated), abs=0.02)


def test_a_regression_finds_the_weight_of_each_feature():
    rng = np.random.default_rng(1)
    features = rng.normal(3, (1, 5), (20_000, 2))
    outcomes = rng.random(20_000) < sigmoid(features @ [1.0, -0.4] + 0.5)

    assert fit_logistic(features, outcomes) == pytest.approx([1.0, -0.4, 0.5], abs=0.15)


@pytest.mark.parametrize(
    ("scores", "area"),
    [([0.1, 0.2, 0.8, 0.9], 1.0), ([0.9, 0.8, 0.2, 0.1], 0.0), ([0.5] * 4, 0.5), ([1, 3, 2, 4], 0.75)],
)
def test_the_area_is_how_often_a_true_outcome_has_the_higher_score(scores, area):
    assert area_under_curve(scores, [False, False, True, True]) == area


def test_the_area_needs_both_outcomes():
    assert np.isnan(area_under_curve([1.0, 2.0], [True, True]))
