"""Figures of a ranker on held-out queries of a log, and on public questions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from gliclass_rerank.cascade import Cascade
from gliclass_rerank.learn.evaluation.ranking import evaluate_queries
from gliclass_rerank.learn.updating.gathering import QueryFeedback
from gliclass_rerank.learn.updating.lists import filled
from gliclass_rerank.learn.updating.network import list_logits
from gliclass_rerank.learn.updating.propensity import Propensities
from gliclass_rerank.learn.updating.public_questions import PublicQuestion
from gliclass_rerank.pipeline import Pipeline

# Candidates of a held-out query.
_CANDIDATES: Final = 30

Order = Mapping[str, int]
"""Place of each passage, from 0."""


@dataclass(frozen=True)
class Figures:
    """Figures by query, of those that have them.

    Attributes:
        judged: nDCG@10 on judgements.
        clicked: Clipped IPS estimate of the discounted clicks that a list gets.
        public: nDCG@10 on public questions.
    """

    judged: Sequence[float]
    clicked: Sequence[float]
    public: Sequence[float]


def figures(
    ranker: Pipeline | Cascade,
    queries: Sequence[QueryFeedback],
    propensities: Propensities,
    public: Sequence[PublicQuestion],
    on_scored: Callable[[int], object],
) -> Figures:
    """Measure a ranker.

    Args:
        ranker: Ranker.
        queries: Held-out queries.
        propensities: Probabilities that a place was looked at.
        public: Public questions.
        on_scored: Callback with the number of lists scored so far.

    Returns:
        Figures, for every ranker of the same queries in the same order.
    """
    pool = [passage for query in queries for passage in query.candidates()]
    lists = [
        (query.query, filled(query.candidates()[:_CANDIDATES], pool, [number])) for number, query in enumerate(queries)
    ]
    orders = _orders(ranker, [*lists, *((each.text, each.passages) for each in public)], on_scored)
    own, of_public = orders[: len(lists)], orders[len(lists) :]
    return Figures(
        judged=_judged(queries, own),
        clicked=[
            _clicked(query, order, propensities) for query, order in zip(queries, own, strict=True) if query.has_clicks
        ],
        public=[_discount(order[each.passages[each.answer]]) for each, order in zip(public, of_public, strict=True)],
    )


def _orders(
    ranker: Pipeline | Cascade, lists: Sequence[tuple[str, Sequence[str]]], on_scored: Callable[[int], object]
) -> list[Order]:
    distinct = [(query, list(dict.fromkeys(passages))) for query, passages in lists]
    found: list[Order] = []
    for (_, passages), logits in zip(distinct, list_logits(ranker, distinct, on_scored), strict=True):
        # Ties are broken by the text: the order shown must not help the model that made it.
        ranked = sorted(zip(logits, passages, strict=True), key=lambda pair: (-pair[0], pair[1]))
        found.append({passage: place for place, (_, passage) in enumerate(ranked)})
    return found


def _judged(queries: Sequence[QueryFeedback], orders: Sequence[Order]) -> list[float]:
    """nDCG@10 with rounded mean grades, of queries with a positive one among the candidates."""
    qrels: dict[str, Mapping[str, int]] = {}
    run = {}
    for number, (query, order) in enumerate(zip(queries, orders, strict=True)):
        # Round half up: half of the users found it right.
        grades = {text: math.floor(value + 0.5) for text, value in query.judged.items() if text in order}
        if any(grade > 0 for grade in grades.values()):
            qrels[str(number)] = grades
            run[str(number)] = tuple(sorted(order, key=order.__getitem__))
    return [quality.ndcg_at_10 for quality in evaluate_queries(qrels, run).values()] if qrels else []


def _clicked(query: QueryFeedback, order: Order, propensities: Propensities) -> float:
    """Mean over a query's lists of the clicks' discounts in the new order, each over its chance to be seen."""
    clicked = [impression for impression in query.impressions if impression.clicked]
    values = [
        _discount(order[impression.passages[place]]) / propensities.at(place)
        for impression in clicked
        for place in impression.clicked
        if impression.passages[place] in order
    ]
    return math.fsum(values) / len(clicked)


def _discount(place: int) -> float:
    return 1 / math.log2(place + 2)
