"""Ranking quality, and reranking of a collection.

Measured with `ir_measures` (extra `eval`): nDCG@10 with linear gains, as trec_eval's `ndcg_cut_10`, and MRR@10 with
grades from 1. Both are means over queries with a positive judgment; the ideal ranking uses all judgments.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from gliclass_rerank._imports import require
from gliclass_rerank.errors import DataError, InputError, shown
from gliclass_rerank.learn.evaluation.collection import Collection, Qrels, has_positive
from gliclass_rerank.learn.evaluation.trec import Run, scored

Rank = Callable[[str, Sequence[str]], Sequence[int]]


@dataclass(frozen=True)
class Quality:
    """Metrics of one run.

    Attributes:
        ndcg_at_10: nDCG@10, in [0, 1].
        mrr_at_10: MRR@10, in [0, 1].
    """

    ndcg_at_10: float
    mrr_at_10: float

    def to_dict(self) -> dict[str, float]:
        """Convert to a mapping by the metrics' usual names."""
        return {"ndcg@10": self.ndcg_at_10, "mrr@10": self.mrr_at_10}


@dataclass(frozen=True)
class Report:
    """Result of reranking a collection.

    Attributes:
        first_stage: Metrics of the candidate lists.
        reranked: Metrics after reranking.
        num_queries: Queries ranked, all with a positive judgment.
        num_passages: Passages ranked, over all queries.
        passages_per_second: Speed of ranking alone, the first call's warm-up included.
        run: Reranked documents by query, best first.
    """

    first_stage: Quality
    reranked: Quality
    num_queries: int
    num_passages: int
    passages_per_second: float
    run: Mapping[str, tuple[str, ...]]


def evaluate_run(qrels: Qrels, run: Run) -> Quality:
    """Measure a run.

    Args:
        qrels: Grade by query and judged document.
        run: Documents by query, best first. A query without any scores 0; one without a positive judgment is ignored.

    Returns:
        Means over the queries with a positive judgment.

    Raises:
        DataError: No query has a positive judgment.
        MissingDependencyError: `ir_measures` is not installed.
    """
    return mean_quality([*evaluate_queries(qrels, run).values()])


def mean_quality(qualities: Sequence[Quality]) -> Quality:
    """Average metrics, at least one."""
    return Quality(
        ndcg_at_10=math.fsum(quality.ndcg_at_10 for quality in qualities) / len(qualities),
        mrr_at_10=math.fsum(quality.mrr_at_10 for quality in qualities) / len(qualities),
    )


def evaluate_queries(qrels: Qrels, run: Run) -> dict[str, Quality]:
    """Measure a run query by query, for paired tests.

    Args:
        qrels: Grade by query and judged document.
        run: Documents by query, best first.

    Returns:
        Metrics of each query with a positive judgment, in the order of `qrels`.

    Raises:
        DataError: No query has a positive judgment.
        MissingDependencyError: `ir_measures` is not installed.
    """
    judged = {query_id: dict(grades) for query_id, grades in qrels.items() if has_positive(grades)}
    if not judged:
        raise DataError("a run can only be measured with a positive judgment, got none")
    ir_measures = require("ir_measures", extra="eval")
    ndcg, mrr = ir_measures.nDCG @ 10, ir_measures.RR @ 10
    rows = {query_id: dict(scored(run.get(query_id, ()))) for query_id in judged}
    figures: dict[str, dict[object, float]] = {query_id: {} for query_id in judged}
    for metric in ir_measures.iter_calc([ndcg, mrr], judged, rows):
        figures[metric.query_id][metric.measure] = float(metric.value)
    # A query without a ranking is not reported and scores 0.
    return {
        query_id: Quality(ndcg_at_10=values.get(ndcg, 0.0), mrr_at_10=values.get(mrr, 0.0))
        for query_id, values in figures.items()
    }


def rerank_collection(
    collection: Collection, rank: Rank, *, on_ranked: Callable[[int], object] | None = None
) -> Report:
    """Rank each query's candidates and measure before and after.

    Args:
        collection: Queries with their candidates.
        rank: Function from a query and passages to the index of every passage, best first.
        on_ranked: Callback after each query with its number of passages.

    Returns:
        Metrics, speed and the run.

    Raises:
        InputError: `rank` did not return each index once.
        MissingDependencyError: `ir_measures` is not installed; raised before ranking.
    """
    first_stage = evaluate_run(collection.qrels, collection.candidates)
    run: dict[str, tuple[str, ...]] = {}
    seconds = 0.0
    for query_id, query in collection.queries.items():
        doc_ids = collection.candidates[query_id]
        passages = [collection.passages[doc_id] for doc_id in doc_ids]
        started = time.perf_counter()
        order = rank(query, passages)
        seconds += time.perf_counter() - started
        run[query_id] = _reordered(doc_ids, order)
        if on_ranked is not None:
            on_ranked(len(doc_ids))
    num_passages = collection.num_candidates
    return Report(
        first_stage=first_stage,
        reranked=evaluate_run(collection.qrels, run),
        num_queries=len(run),
        num_passages=num_passages,
        passages_per_second=num_passages / max(seconds, 1e-9),  # a coarse clock may not advance
        run=run,
    )


def _reordered(doc_ids: Sequence[str], order: Sequence[int]) -> tuple[str, ...]:
    if sorted(order) != list(range(len(doc_ids))):
        raise InputError(f"`rank` must return each index below {len(doc_ids)} once, got {shown(list(order))}")
    return tuple(doc_ids[index] for index in order)
