"""Facts of a report: each retriever's lists as figures, plots and rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final

import numpy as np

from gliclass_rerank.learn.report.comparing import Gain, Reranked
from gliclass_rerank.learn.report.plots import Plot, differences, latencies, origins

_BEST: Final = 5
_MOST_ROWS: Final = 200
_TEXT: Final = 400


@dataclass(frozen=True)
class Place:
    """Document among the best of a query.

    Attributes:
        text: Its text, cut.
        score: Score, in [0, 1].
        was: Former rank, from 1.
        grade: Grade; None if it is not judged.
    """

    text: str
    score: float
    was: int
    grade: int | None


@dataclass(frozen=True)
class Row:
    """Query with what moved.

    Attributes:
        query: Text.
        places: The best documents after.
        tau: Kendall's tau between both orders.
        milliseconds: Time to rank.
        ndcg: nDCG@10 before and after; None without judgements.
    """

    query: str
    places: tuple[Place, ...]
    tau: float | None
    milliseconds: float
    ndcg: tuple[float, float] | None

    @property
    def change(self) -> float:
        """Difference of nDCG@10; 0 without judgements."""
        return 0.0 if self.ndcg is None else self.ndcg[1] - self.ndcg[0]


@dataclass(frozen=True)
class Comparison:
    """Retriever with and without reranking.

    Attributes:
        name: Name of the retriever.
        num_queries: Queries with a list.
        num_passages: Mean length of the lists.
        kept_first: Share of queries whose first document stayed first.
        overlap: Mean share of the best ten that were among the best ten before.
        tau: Mean of Kendall's tau; None if all lists hold a single document.
        median_ms: Median time a query.
        slow_ms: 95th percentile of it.
        gain: Gain; None without judgements.
        rows: Queries, those that changed most first.
        plots: Plots by name.
    """

    name: str
    num_queries: int
    num_passages: float
    kept_first: float
    overlap: float
    tau: float | None
    median_ms: float
    slow_ms: float
    gain: Gain | None
    rows: tuple[Row, ...]
    plots: Mapping[str, Plot]

    @property
    def counts(self) -> tuple[int, int, int]:
        """Queries that gained, lost and stayed, by nDCG@10."""
        pairs = [] if self.gain is None else list(self.gain.by_query.values())
        better = sum(after > before for before, after in pairs)
        worse = sum(after < before for before, after in pairs)
        return better, worse, len(pairs) - better - worse


def compared(
    name: str,
    lists: Sequence[Reranked],
    queries: Mapping[str, str],
    corpus: Mapping[str, str],
    qrels: Mapping[str, Mapping[str, int]],
    gained: Gain | None,
) -> Comparison:
    """Sum up one retriever's lists, at least one."""
    times = [each.seconds * 1000 for each in lists]
    taus = [each.tau for each in lists if each.tau is not None]
    plots = {"origins": origins(lists), "latencies": latencies(lists)}
    if gained is not None:
        plots["differences"] = differences(gained, dict(queries))
    rows = [_row(each, queries, corpus, qrels.get(each.query_id, {}), gained) for each in lists]
    rows.sort(key=lambda row: (-abs(row.change), 1.0 if row.tau is None else row.tau))
    return Comparison(
        name=name,
        num_queries=len(lists),
        num_passages=fmean(len(each.before) for each in lists),
        kept_first=fmean(each.origins[0] == 0 for each in lists),
        overlap=fmean(each.overlap for each in lists),
        tau=fmean(taus) if taus else None,
        median_ms=float(np.median(times)),
        slow_ms=float(np.percentile(times, 95)),
        gain=gained,
        rows=tuple(rows[:_MOST_ROWS]),
        plots=plots,
    )


def _row(
    each: Reranked,
    queries: Mapping[str, str],
    corpus: Mapping[str, str],
    grades: Mapping[str, int],
    gained: Gain | None,
) -> Row:
    best = zip(each.after[:_BEST], each.scores, each.origins, strict=False)
    return Row(
        query=queries[each.query_id],
        places=tuple(Place(_cut(corpus[name]), score, was + 1, grades.get(name)) for name, score, was in best),
        tau=each.tau,
        milliseconds=each.seconds * 1000,
        ndcg=None if gained is None else gained.by_query.get(each.query_id),
    )


def _cut(text: str) -> str:
    return text if len(text) <= _TEXT else f"{text[: _TEXT - 1].rstrip()}…"
