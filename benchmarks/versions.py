"""One model served in several ways: what each gains, and what it does to the order.

They take turns at every query, so that a busy machine hurts all of them.
"""

from __future__ import annotations

import statistics
from typing import Any

from harness import take_turns

from gliclass_rerank import Reranker
from gliclass_rerank.learn.evaluation.collection import Collection
from gliclass_rerank.learn.evaluation.ranking import rerank_collection
from gliclass_rerank.types import Ranking


def measure(collection: Collection, versions: dict[str, Reranker]) -> list[dict[str, Any]]:
    """Rank everything with everyone, in turns.

    Args:
        collection: The queries and their candidates.
        versions: By name; the first is the base of all ratios and errors.

    Returns:
        One row for each of them.
    """
    base = next(iter(versions))
    asks = [
        (query, [collection.passages[candidate] for candidate in collection.candidates[key]])
        for key, query in collection.queries.items()
    ]
    num_passages = sum(len(passages) for _, passages in asks)
    timed = take_turns({name: lambda ask, own=own: own.rank(*ask) for name, own in versions.items()}, asks)
    seconds = {name: [taken for taken, _ in rounds] for name, rounds in timed.items()}
    rankings: dict[str, dict[str, Ranking]] = {
        name: {query: ranking for (query, _), (_, ranking) in zip(asks, rounds, strict=True)}
        for name, rounds in timed.items()
    }
    rows = []
    for name, found in rankings.items():
        report = rerank_collection(collection, lambda query, _, found=found: [hit.index for hit in found[query]])
        exact = {(query, hit.index): hit.logit for query, ranking in rankings[base].items() for hit in ranking}
        errors = [hit.logit - exact[query, hit.index] for query, ranking in found.items() for hit in ranking]
        rows.append(
            {
                "version": name,
                "ndcg_at_10": report.reranked.ndcg_at_10,
                "rms_error": statistics.fmean(error**2 for error in errors) ** 0.5,
                "largest_error": max(map(abs, errors)),
                "passages_per_second": num_passages / sum(seconds[name]),
                "p50_s": statistics.median(seconds[name]),
                "p95_s": statistics.quantiles(seconds[name], n=20)[-1],
                "speed_up": statistics.median(
                    full / own for full, own in zip(seconds[base], seconds[name], strict=True)
                ),
            }
        )
    return rows


def print_table(collection: Collection, rows: list[dict[str, Any]]) -> None:
    """What was measured, under a line that says on what."""
    print(f"{collection.name}, {len(collection.queries)} queries, {collection.num_candidates} passages")
    print("version               nDCG@10   rms error  largest   passages/s   p50 s   p95 s  speed-up")
    for row in rows:
        print(
            f"{row['version']:20}  {row['ndcg_at_10']:.4f}  {row['rms_error']:10.2g}  {row['largest_error']:8.1g}"
            f"  {row['passages_per_second']:10.1f}  {row['p50_s']:6.2f}  {row['p95_s']:6.2f}  {row['speed_up']:8.2f}"
        )
