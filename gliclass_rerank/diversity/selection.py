"""Maximal marginal relevance (Carbonell, Goldstein 1998) over the model's own passage vectors.

The gain of a passage is the product of its score and of what it adds, not their weighted sum, which would prefer the
irrelevant to the repeated (docs/decisions/0046-spans.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gliclass_rerank.cascade import Cascade
from gliclass_rerank.pipeline import Pipeline
from gliclass_rerank.types import Hit, Ranking

# Cosine from which one passage repeats another.
SAME: Final = 0.95


def diversified(pipeline: Pipeline | Cascade, ranking: Ranking, diversity: float, top_k: int | None) -> Ranking:
    """Choose passages that are relevant and differ from those before them.

    Args:
        pipeline: Pipeline or cascade.
        ranking: Ranking of all passages.
        diversity: Weight of the difference, in [0, 1].
        top_k: Maximum number of hits; None for all.

    Returns:
        The ranking in the order of choice, with `Hit.repeats`. Scores stay; passages judged relevant stay first, those
        judged irrelevant last.

    Raises:
        ConfigError: The checkpoint has no vectors of passages.
        BackendError: The forward pass failed.
    """
    if not ranking.hits:
        return ranking
    texts = list(dict.fromkeys(hit.text for hit in ranking))
    row = {text: number for number, text in enumerate(texts)}
    vectors = pipeline.passage_vectors(texts)[[row[hit.text] for hit in ranking]]
    order, nearest = marginal_relevance([hit.score for hit in ranking], vectors, diversity, groups(ranking.hits), top_k)
    hits = tuple(
        replace(ranking[place], repeats=None if other is None else ranking[other].index)
        for place, other in zip(order, nearest, strict=True)
    )
    return replace(ranking, hits=hits)


def groups(hits: Sequence[Hit]) -> list[int]:
    """Rank of each hit's judgement: relevant, none, irrelevant."""
    return [{"relevant": 0, None: 1, "irrelevant": 2}[hit.judged] for hit in hits]


def marginal_relevance(
    scores: Sequence[float],
    vectors: NDArray[np.float32],
    diversity: float,
    groups: Sequence[int],
    top_k: int | None = None,
) -> tuple[list[int], list[int | None]]:
    """Choose one after the other by score and distance to those chosen.

    Args:
        scores: Scores in [0, 1], descending within a group.
        vectors: FloatArray [num_passages, dim], of unit length.
        diversity: Share of a passage's score that its repetition costs, in [0, 1].
        groups: Group of each passage; a lower one is chosen first.
        top_k: Number to choose; None for all.

    Returns:
        Places in the order of choice, ties in the given one; and for each the place of the most similar one chosen
        before it, None if none is as similar as `SAME`.
    """
    left, relevance = np.arange(len(scores)), np.asarray(scores)
    group, similarity = np.asarray(groups), np.full(len(scores), -1.0)
    nearest, order, repeats = np.full(len(scores), -1), list[int](), list[int | None]()
    while len(left) and (top_k is None or len(order) < top_k):
        gain = relevance[left] * (1 - diversity * np.clip(similarity[left], 0, 1))
        gain[group[left] > group[left].min()] = -np.inf
        place = int(left[gain.argmax()])
        order.append(place)
        repeats.append(int(nearest[place]) if similarity[place] >= SAME else None)
        left = left[left != place]
        closeness = vectors[left] @ vectors[place]
        is_nearer = closeness > similarity[left]
        similarity[left[is_nearer]], nearest[left[is_nearer]] = closeness[is_nearer], place
    return order, repeats
