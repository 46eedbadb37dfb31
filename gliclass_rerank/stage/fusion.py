"""Combines a reranker's order with the retriever's. Pure functions of numbers, one value a passage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, Literal

Fusion = Literal["reciprocal_rank", "weighted"]

# Cormack, Clarke, Buettcher 2009, "Reciprocal rank fusion outperforms Condorcet and individual rank learning methods".
_RANK_OFFSET: Final = 60


def reciprocal_rank(order: Sequence[int], weight: float) -> dict[int, float]:
    """Reciprocal rank fusion of the reranker's order with the order in which the passages came.

    Args:
        order: Indices of the passages in the retriever's list (best first there too), in the reranker's order.
        weight: Share of the reranker, in [0, 1]; the retriever has the rest.

    Returns:
        For each index a value in (0, 1]; 1 for a passage that is first in both orders.
    """
    best = _RANK_OFFSET + 1
    return {
        index: weight * best / (best + rank) + (1 - weight) * best / (best + index) for rank, index in enumerate(order)
    }


def weighted(rerank_scores: Sequence[float], retrieval_scores: Sequence[float], weight: float) -> list[float]:
    """Weighted mean of the reranker's scores and the retriever's, the latter scaled over the list.

    Retrieval scores have any scale (BM25 has no upper end), so they are mapped linearly: the best becomes 1; 0, or the
    lowest if that is negative, becomes 0. A lone passage therefore keeps its worth, which scaling from the lowest
    would take away.

    Args:
        rerank_scores: The reranker's score of each passage, in [0, 1].
        retrieval_scores: The retriever's; higher is better.
        weight: Share of the reranker, in [0, 1].

    Returns:
        One value a passage, in [0, 1].
    """
    floor = min(0.0, *retrieval_scores) if retrieval_scores else 0.0
    span = max(retrieval_scores, default=0.0) - floor
    if math.isinf(span):  # from one end of all numbers to the other
        return weighted(rerank_scores, [score / 4 for score in retrieval_scores], weight)
    scaled = [(score - floor) / span if span else 1.0 for score in retrieval_scores]
    return [weight * ours + (1 - weight) * theirs for ours, theirs in zip(rerank_scores, scaled, strict=True)]
