"""Lists before and after reranking: what moved, what it cost, and what it gained."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from gliclass_rerank.learn.data.agreement import kendall_tau
from gliclass_rerank.learn.data.retrieval import Bm25Retriever
from gliclass_rerank.learn.evaluation.bootstrap import resampled_means
from gliclass_rerank.learn.evaluation.collection import Qrels, has_positive
from gliclass_rerank.learn.evaluation.ranking import evaluate_queries
from gliclass_rerank.learn.evaluation.trec import Run

if TYPE_CHECKING:
    from gliclass_rerank import Reranker

Rank = Callable[[str, Sequence[str]], Sequence[tuple[int, float]]]

TOP: Final = 10


@dataclass(frozen=True)
class Reranked:
    """One query's list before and after.

    Attributes:
        query_id: Id of the query.
        before: Documents as they were retrieved, best first.
        after: The same documents, reranked.
        scores: Score of each document in `after`.
        seconds: Time to rank.
    """

    query_id: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    scores: tuple[float, ...]
    seconds: float

    @property
    def origins(self) -> tuple[int, ...]:
        """Former position of each document in `after`, from 0."""
        places = {name: place for place, name in enumerate(self.before)}
        return tuple(places[name] for name in self.after)

    @property
    def tau(self) -> float | None:
        """Kendall's tau between both orders, in [-1, 1]; None for a single document."""
        return kendall_tau(range(len(self.before)), self.origins)

    @property
    def overlap(self) -> float:
        """Share of the best documents that were among the best before."""
        count = min(TOP, len(self.before))
        return sum(origin < count for origin in self.origins[:count]) / count


@dataclass(frozen=True)
class Interval:
    """Mean with the bounds of its 95 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Gain:
    """nDCG@10 over the judged queries.

    Attributes:
        before: Of the retriever's lists.
        after: Of the reranked ones.
        difference: After minus before, query by query.
        by_query: Both values by query.
    """

    before: Interval
    after: Interval
    difference: Interval
    by_query: Mapping[str, tuple[float, float]]


def ranks_of(reranker: Reranker) -> Rank:
    """Ranking function of a reranker; its feedback log notes nothing."""

    def rank(query: str, passages: Sequence[str]) -> list[tuple[int, float]]:
        return [(hit.index, hit.score) for hit in reranker.rank(query, passages, log=False)]

    return rank


def bm25_run(queries: Mapping[str, str], corpus: Mapping[str, str], depth: int) -> dict[str, tuple[str, ...]]:
    """Retrieve with BM25 over stemmed English words, leaving out what is the query itself.

    Args:
        queries: Text by id.
        corpus: Text by document.
        depth: Maximum number of documents a query.

    Returns:
        Documents by query, best first.

    Raises:
        MissingDependencyError: `bm25s` or `PyStemmer` is not installed.
    """
    names, texts = list(corpus), list(corpus.values())
    found = Bm25Retriever(texts, extra="eval").retrieve(list(queries.values()), depth + 1)
    return {
        query_id: tuple(names[index] for index in indices if texts[index] != query)[:depth]
        for (query_id, query), indices in zip(queries.items(), found, strict=True)
    }


def rerank_lists(queries: Mapping[str, str], corpus: Mapping[str, str], run: Run, rank: Rank) -> Iterator[Reranked]:
    """Rerank the list of each query that has one.

    Args:
        queries: Text by id.
        corpus: Text by document.
        run: Documents by query, best first.
        rank: Function from query and passages to index and score of each, best first.

    Yields:
        One result a query.
    """
    for query_id, query in queries.items():
        before = tuple(run.get(query_id, ()))
        if not before:
            continue
        began = time.perf_counter()
        ranked = rank(query, [corpus[name] for name in before])
        seconds = time.perf_counter() - began
        yield Reranked(
            query_id=query_id,
            before=before,
            after=tuple(before[index] for index, _ in ranked),
            scores=tuple(score for _, score in ranked),
            seconds=seconds,
        )


def gain(qrels: Qrels, lists: Sequence[Reranked]) -> Gain | None:
    """Measure lists against judgements.

    Args:
        qrels: Grade by query and document.
        lists: Reranked lists.

    Returns:
        The gain; None if no query has both a list and a positive judgement.

    Raises:
        MissingDependencyError: `ir_measures` is not installed.
    """
    ranked = {each.query_id for each in lists}
    judged = {name: grades for name, grades in qrels.items() if name in ranked and has_positive(grades)}
    if not judged:
        return None
    before = evaluate_queries(judged, {each.query_id: each.before for each in lists})
    after = evaluate_queries(judged, {each.query_id: each.after for each in lists})
    pairs = {name: (before[name].ndcg_at_10, after[name].ndcg_at_10) for name in judged}
    values = np.array(list(pairs.values()))
    return Gain(
        before=bootstrap(values[:, 0]),
        after=bootstrap(values[:, 1]),
        difference=bootstrap(values[:, 1] - values[:, 0]),
        by_query=pairs,
    )


def bootstrap(values: Sequence[float] | NDArray[np.float64]) -> Interval:
    """Mean with its 95 % percentile bootstrap interval; reproducible."""
    low, high = np.percentile(resampled_means(values), [2.5, 97.5])
    return Interval(float(np.mean(values)), float(low), float(high))
