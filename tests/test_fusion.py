"""Fusion of the reranker's order with the retriever's."""

import pytest

from gliclass_rerank.stage.fusion import reciprocal_rank, weighted


def test_reciprocal_rank_adds_both_orders_with_the_offset_of_the_paper():
    fused = reciprocal_rank([2, 0, 1], weight=0.5)

    assert fused == pytest.approx({0: 30.5 / 62 + 30.5 / 61, 1: 30.5 / 63 + 30.5 / 62, 2: 30.5 / 61 + 30.5 / 63})


@pytest.mark.parametrize(("weight", "order"), [(1.0, [2, 0, 1]), (0.0, [0, 1, 2])])
def test_the_weight_is_the_rerankers_share(weight, order):
    ranks = reciprocal_rank([2, 0, 1], weight=weight)
    scores = weighted([0.5, 0.1, 0.9], [3.0, 2.0, 1.0], weight)

    assert sorted(ranks, key=ranks.get, reverse=True) == order
    assert sorted(range(3), key=lambda index: -scores[index]) == order


def test_first_in_both_orders_is_worth_one():
    assert reciprocal_rank([0, 1], weight=0.3)[0] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("retrieval", "scaled"),
    [
        ([12.0, 6.0, 3.0], [1.0, 0.5, 0.25]),  # BM25: 0 stays 0
        ([1.0, 0.0, -1.0], [1.0, 0.5, 0.0]),  # cosines, the lowest below 0
        ([-2.0, -4.0], [1.0, 0.0]),  # logits, all below 0
        ([7.0], [1.0]),  # a lone hit keeps its worth
        ([0.0, 0.0], [1.0, 1.0]),
        ([], []),
    ],
)
def test_retrieval_scores_are_scaled_over_the_list(retrieval, scaled):
    assert weighted([0.0] * len(retrieval), retrieval, weight=0.0) == pytest.approx(scaled)
