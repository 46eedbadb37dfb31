"""Question: how many passages a second does each backend rank, and how far is its order from torch's in float32?

Regime: compute-bound on a CPU; real queries with their first-stage candidates, so that lengths vary from batch to
batch as they do in use (a runtime that prepares itself for every new shape pays for it here). The backends take turns
at every query, torch in float32 is the base of all ratios, and nDCG@10 stands beside each figure.

Ceiling: attention, activations and normalisation stay in float32 or bfloat16 under int8, and what is in front of and
behind the layers (texts to tokens, embeddings, head: 0.09 s for 100 passages of trec_dl19) stays in torch.

    python benchmarks/bench_backends.py --data FOLDER [--limit N] [--threads N] [--backends NAME[:DTYPE] ...]
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

import torch
from harness import print_json, take_turns

from gliclass_rerank import Reranker
from gliclass_rerank.evaluation.collection import Collection, load_collection
from gliclass_rerank.evaluation.ranking import rerank_collection
from gliclass_rerank.types import Ranking

BASE = "torch:float32"
BACKENDS = (
    BASE,
    "torch:bfloat16",
    "onnx:float32",
    "onnx:int8",
    "openvino:float32",
    "openvino:bfloat16",
    "openvino:int8",
)


def measure(collection: Collection, rerankers: dict[str, Reranker]) -> list[dict[str, Any]]:
    """Rank everything with everyone, in turns.

    Args:
        collection: The queries and their candidates.
        rerankers: By name; one of them is `BASE`.

    Returns:
        One row for each of them.
    """
    asks = [
        (query, [collection.passages[candidate] for candidate in collection.candidates[key]])
        for key, query in collection.queries.items()
    ]
    num_passages = sum(len(passages) for _, passages in asks)
    timed = take_turns({name: lambda ask, own=own: own.rank(*ask) for name, own in rerankers.items()}, asks)
    seconds = {name: [taken for taken, _ in rounds] for name, rounds in timed.items()}
    rankings: dict[str, dict[str, Ranking]] = {
        name: {query: ranking for (query, _), (_, ranking) in zip(asks, rounds, strict=True)}
        for name, rounds in timed.items()
    }
    rows = []
    for name, found in rankings.items():
        report = rerank_collection(collection, lambda query, _, found=found: [hit.index for hit in found[query]])
        exact = {(query, hit.index): hit.logit for query, ranking in rankings[BASE].items() for hit in ranking}
        errors = [hit.logit - exact[query, hit.index] for query, ranking in found.items() for hit in ranking]
        rows.append(
            {
                "backend": name,
                "ndcg_at_10": report.reranked.ndcg_at_10,
                "rms_error": statistics.fmean(error**2 for error in errors) ** 0.5,
                "largest_error": max(map(abs, errors)),
                "passages_per_second": num_passages / sum(seconds[name]),
                "p50_s": statistics.median(seconds[name]),
                "p95_s": statistics.quantiles(seconds[name], n=20)[-1],
                "speed_up": statistics.median(
                    base / own for base, own in zip(seconds[BASE], seconds[name], strict=True)
                ),
            }
        )
    return rows


def main() -> None:
    """Print a table, then one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--model")
    parser.add_argument("--backends", nargs="+", default=BACKENDS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    collection = load_collection(arguments.data, arguments.split, limit=arguments.limit)
    names = dict.fromkeys((BASE, *arguments.backends))
    rerankers = {}
    for name in names:
        backend, _, dtype = name.partition(":")
        rerankers[name] = Reranker(arguments.model, device="cpu", backend=backend, dtype=dtype or None)
    rows = measure(collection, rerankers)
    print(f"{collection.name}, {len(collection.queries)} queries, {collection.num_candidates} passages")
    print("backend             nDCG@10   rms error  largest   passages/s   p50 s   p95 s  speed-up")
    for row in rows:
        print(
            f"{row['backend']:18}  {row['ndcg_at_10']:.4f}  {row['rms_error']:10.2g}  {row['largest_error']:8.1g}"
            f"  {row['passages_per_second']:10.1f}  {row['p50_s']:6.2f}  {row['p95_s']:6.2f}  {row['speed_up']:8.2f}"
        )
    print_json({"benchmark": "backends", "data": collection.name, "rows": rows})


if __name__ == "__main__":
    main()
