import random

import ir_measures
import pytest
from scipy.stats import kendalltau

from gliclass_rerank.learn.data.agreement import compare_teachers, kendall_tau, ndcg_at_10
from gliclass_rerank.learn.data.records import RankingRecord


def record(grades, **teachers):
    passages = tuple(f"passage {number}" for number in range(len(grades)))
    return RankingRecord(query="q", passages=passages, grades=tuple(grades), teacher_scores=teachers)


def test_ndcg_is_that_of_ir_measures():
    rng = random.Random(1)
    for _ in range(20):
        grades = [3, *(rng.choice([None, 0, 1, 2]) for _ in range(24))]
        scores = rng.sample(range(100), 25)
        qrels = {"q": {str(index): grade for index, grade in enumerate(grades) if grade is not None}}
        run = {"q": {str(index): float(score) for index, score in enumerate(scores)}}
        expected = ir_measures.calc_aggregate([ir_measures.nDCG @ 10], qrels, run)[ir_measures.nDCG @ 10]
        assert ndcg_at_10(scores, grades) == pytest.approx(expected, abs=1e-6)


def test_tau_is_that_of_scipy():
    rng = random.Random(2)
    for _ in range(20):
        first, second = ([rng.randint(0, 6) for _ in range(15)] for _ in range(2))
        assert kendall_tau(first, second) == pytest.approx(kendalltau(first, second).statistic)
    assert kendall_tau([1, 1], [1, 2]) is None


def test_teachers_are_compared_where_they_have_something_to_say():
    figures = compare_teachers(
        [
            record([1, None], a=(2.0, 1.0), b=(1.0, 2.0)),  # a is right, b is wrong
            record([None, None], a=(2.0, 1.0), b=(5.0, 4.0)),  # nobody has judged it
            record([1], a=(2.0,), b=(1.0,)),  # nothing to order
            record([0, 1], a=(1.0, 2.0)),  # b has not scored it
        ]
    )
    assert figures.ndcg_at_10 == {"a": 1.0, "b": pytest.approx(0.6309, abs=1e-4)}
    assert figures.num_judged == {"a": 2, "b": 1}
    assert figures.tau == {("a", "b"): 0.0}
    assert figures.num_compared == {("a", "b"): 2}


def test_without_scores_there_is_nothing_to_report():
    assert compare_teachers([record([1, 0])]).ndcg_at_10 == {}
