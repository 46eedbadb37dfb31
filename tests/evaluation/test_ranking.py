import sys
from math import log2

import pytest

from gliclass_rerank.errors import DataError, InputError, MissingDependencyError
from gliclass_rerank.learn.evaluation.collection import Collection
from gliclass_rerank.learn.evaluation.ranking import evaluate_run, rerank_collection


def discounted(*grades):
    return sum(grade / log2(rank + 1) for rank, grade in enumerate(grades, start=1))


def test_ndcg_uses_linear_gains_and_the_ideal_of_all_judgments():
    qrels = {"q": {"a": 3, "b": 1, "c": 0, "absent": 2}}
    quality = evaluate_run(qrels, {"q": ("unjudged", "b", "c", "a")})
    assert quality.ndcg_at_10 == pytest.approx(discounted(0, 1, 0, 3) / discounted(3, 2, 1))
    assert quality.mrr_at_10 == pytest.approx(1 / 2)


def test_only_the_first_ten_count():
    docs = tuple(f"d{number}" for number in range(11))
    at_ten = evaluate_run({"q": {"d9": 1}}, {"q": docs})
    assert at_ten.mrr_at_10 == pytest.approx(1 / 10)
    assert at_ten.ndcg_at_10 == pytest.approx(1 / log2(11))
    beyond = evaluate_run({"q": {"d10": 1}}, {"q": docs})
    assert (beyond.ndcg_at_10, beyond.mrr_at_10) == (0, 0)


def test_the_order_of_the_run_is_what_is_measured():
    # trec_eval breaks ties by document id; no ties reach it
    docs = ("z", "y", "x", "a", "b")
    assert evaluate_run({"q": {"z": 1}}, {"q": docs}).mrr_at_10 == 1
    assert evaluate_run({"q": {"b": 1}}, {"q": docs}).mrr_at_10 == pytest.approx(1 / 5)


def test_averages_over_queries_with_a_positive_judgment_whether_found_or_not():
    qrels = {
        "found": {"a": 1},
        "missed": {"a": 1},
        "absent": {"a": 1},
        "none": {"a": 0},
        "negative": {"a": -1},
    }
    run = {"found": ("a",), "missed": ("b",), "none": ("a",), "negative": ("a",), "unjudged": ("a",)}
    quality = evaluate_run(qrels, run)
    assert quality.ndcg_at_10 == pytest.approx(1 / 3)
    assert quality.mrr_at_10 == pytest.approx(1 / 3)
    assert quality.to_dict() == {"ndcg@10": quality.ndcg_at_10, "mrr@10": quality.mrr_at_10}


def test_an_empty_ranking_scores_zero():
    assert evaluate_run({"q": {"a": 1}}, {"q": ()}).ndcg_at_10 == 0


def test_judgments_without_a_positive_cannot_be_measured():
    with pytest.raises(DataError, match=r"with a positive judgment, got none"):
        evaluate_run({"q": {"a": 0}}, {"q": ("a",)})


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ir_measures", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'gliclass-rerank\[eval\]'"):
        evaluate_run({"q": {"a": 1}}, {"q": ("a",)})


@pytest.fixture
def collection():
    return Collection(
        name="toy",
        queries={"q1": "one", "q2": "two"},
        passages={"a": "text a", "b": "text b", "c": "text c"},
        qrels={"q1": {"c": 2, "a": 1}, "q2": {"b": 1}},
        candidates={"q1": ("a", "b", "c"), "q2": ("b", "a")},
    )


def test_the_report_compares_the_candidates_with_the_ranking(collection):
    asked, ranked = [], []

    def rank_in_reverse(query, passages):
        asked.append((query, list(passages)))
        return range(len(passages) - 1, -1, -1)

    report = rerank_collection(collection, rank_in_reverse, on_ranked=ranked.append)
    assert asked == [("one", ["text a", "text b", "text c"]), ("two", ["text b", "text a"])]
    assert report.run == {"q1": ("c", "b", "a"), "q2": ("a", "b")}
    ideal = discounted(2, 1)
    assert report.first_stage.ndcg_at_10 == pytest.approx((discounted(1, 0, 2) / ideal + 1) / 2)
    assert report.reranked.ndcg_at_10 == pytest.approx((discounted(2, 0, 1) / ideal + 1 / log2(3)) / 2)
    assert report.first_stage.mrr_at_10 == 1
    assert report.reranked.mrr_at_10 == pytest.approx((1 + 1 / 2) / 2)
    assert (report.num_queries, report.num_passages) == (2, 5)
    assert report.passages_per_second > 0
    assert ranked == [3, 2]


def test_speed_is_measured_over_ranking_alone(collection, monkeypatch):
    clock = iter([10.0, 12.0, 50.0, 53.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    report = rerank_collection(collection, lambda query, passages: range(len(passages)))
    assert report.passages_per_second == pytest.approx(5 / (2 + 3))


@pytest.mark.parametrize("order", [[0, 1], [0, 1, 1], [0, 1, 3], [-1, 0, 1]])
def test_a_ranking_that_is_not_a_permutation_is_refused(collection, order):
    with pytest.raises(InputError, match=r"`rank` must return each index below 3 once, got \["):
        rerank_collection(collection, lambda query, passages: order)
