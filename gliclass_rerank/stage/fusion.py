"""Fusion of a reranker's and a retriever's order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, Literal

Fusion = Literal["reciprocal_rank", "weighted"]

# Cormack, Clarke, Buettcher 2009, "Reciprocal rank fusion outperforms Condorcet and individual rank learning methods".
_RANK_OFFSET: Final = 60


def reciprocal_rank(order: Sequence[int], weight: float) -> dict[int, float]:
    """Reciprocal rank fusion of the reranker's order with the retriever's.

    Args:
        order: Indices in the retriever's list (best first), in the reranker's order.
        weight: Weight of the reranker, in [0, 1]; the retriever has the rest.

    Returns:
        Value in (0, 1] by index; 1 for a passage first in both orders.
    """
    best = _RANK_OFFSET + 1
    return {
        index: weight * best / (best + rank) + (1 - weight) * best / (best + index) for rank, index in enumerate(order)
    }


def weighted(rerank_scores: Sequence[float], retrieval_scores: Sequence[float], weight: float) -> list[float]:
    """Weighted mean of the reranker's scores and the rescaled retriever's.

    Retrieval scores have any scale (BM25 is unbounded), so they are mapped linearly per list: the best to 1, and 0, or
    a
    negative minimum, to 0. A lone passage thus keeps its value, unlike under min-max scaling.

    Args:
        rerank_scores: The reranker's scores, in [0, 1].
        retrieval_scores: The retriever's scores; higher is better.
        weight: Weight of the reranker, in [0, 1].

    Returns:
        One value in [0, 1] per passage.
    """
    floor = min(0.0, *retrieval_scores) if retrieval_scores else 0.0
    span = max(retrieval_scores, default=0.0) - floor
    if math.isinf(span):  # the range overflows
        return weighted(rerank_scores, [score / 4 for score in retrieval_scores], weight)
    scaled = [(score - floor) / span if span else 1.0 for score in retrieval_scores]
    return [weight * ours + (1 - weight) * theirs for ours, theirs in zip(rerank_scores, scaled, strict=True)]
