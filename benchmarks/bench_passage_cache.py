"""Question: how many passages a second are ranked without and with a passage cache, and what does it do to the order?

Regime: compute-bound on a CPU; real queries with their first-stage candidates, all of them known. The caches take turns
with no cache, round by round over all queries. A cache is made at each possible layer, 1 to `query_attention_start`;
its size is the same at each, because all layers' states are as wide.

Ceiling: below n / (n - k) with k of n layers left out: tokenising, the query's own layers and the head stay, and the
layers above are the dearer ones, because passages attend to the query there.

    python benchmarks/bench_passage_cache.py --data FOLDER [--limit N] [--depth N] [--repeats N] [--threads N] \
        [--backend NAME --dtype NAME]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from harness import interleaved_medians, print_json

from gliclass_rerank import Reranker
from gliclass_rerank.learn.data.agreement import kendall_tau
from gliclass_rerank.learn.evaluation.collection import Collection, load_collection
from gliclass_rerank.learn.evaluation.ranking import rerank_collection
from gliclass_rerank.pipeline import Pipeline
from gliclass_rerank.settings import ModelSettings
from gliclass_rerank.types import Ranking

BASE = "no cache"


def shortened(collection: Collection, depth: int) -> Collection:
    """Keep the first candidates of each query."""
    kept = {key: candidates[:depth] for key, candidates in collection.candidates.items()}
    needed = {candidate for candidates in kept.values() for candidate in candidates}
    passages = {key: text for key, text in collection.passages.items() if key in needed}
    return replace(collection, candidates=kept, passages=passages)


def make_caches(model: str | None, collection: Collection, folder: Path) -> dict[str, Path]:
    """Write a cache at each layer in float16, and in int8 at the last of them.

    Args:
        model: The checkpoint.
        collection: Whose passages.
        folder: Where to.

    Returns:
        Folders by name.
    """
    pipeline = Pipeline(ModelSettings(model, device="cpu", dtype="float32"))
    texts = collection.passages.values()
    last = pipeline.precompute(texts, folder / "float16").layer
    pipeline.precompute(texts, folder / "int8", dtype="int8")
    for layer in range(1, last):
        pipeline.precompute(texts, folder / str(layer), layer=layer)
    names = {f"float16, layer {layer}": folder / str(layer) for layer in range(1, last)}
    return {**names, f"float16, layer {last}": folder / "float16", f"int8, layer {last}": folder / "int8"}


def rank_all(collection: Collection, reranker: Reranker) -> dict[str, Ranking]:
    """Rank each query's candidates; rankings by query."""
    return {
        query: reranker.rank(query, [collection.passages[candidate] for candidate in collection.candidates[key]])
        for key, query in collection.queries.items()
    }


def measure(
    collection: Collection, rerankers: Mapping[str, Reranker], sizes: Mapping[str, float], repeats: int
) -> list[dict[str, Any]]:
    """Time all rerankers in turns and compare their orders.

    Args:
        collection: The queries and their candidates.
        rerankers: By name; one of them is `BASE`.
        sizes: Bytes a passage, of those that have a cache.
        repeats: Timed rounds.

    Returns:
        One row for each of them.
    """
    found: dict[str, dict[str, Ranking]] = {}

    def run(name: str) -> None:
        found[name] = rank_all(collection, rerankers[name])

    seconds = interleaved_medians({name: lambda name=name: run(name) for name in rerankers}, repeats=repeats)
    base = {query: logits(ranking) for query, ranking in found[BASE].items()}
    rows = []
    for name, rankings in found.items():
        own = {query: logits(ranking) for query, ranking in rankings.items()}
        report = rerank_collection(collection, lambda query, _, by=rankings: [hit.index for hit in by[query]])
        taus = [kendall_tau(base[query], own[query]) for query in base]
        rows.append(
            {
                "cache": name,
                "passages_per_second": collection.num_candidates / seconds[name],
                "speed_up": seconds[BASE] / seconds[name],
                "ndcg_at_10": report.reranked.ndcg_at_10,
                "kendall_tau": statistics.fmean(tau for tau in taus if tau is not None),
                "largest_error": max(
                    abs(mine - exact) for query in base for mine, exact in zip(own[query], base[query], strict=True)
                ),
                "bytes_per_passage": sizes.get(name, 0),
            }
        )
    return rows


def logits(ranking: Ranking) -> list[float]:
    """Logits in the order of the candidates."""
    return [hit.logit for hit in sorted(ranking, key=lambda hit: hit.index)]


def main() -> None:
    """Print a table, then one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--depth", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--model")
    parser.add_argument("--backend", default="torch", help="what ranks; torch fills the caches")
    parser.add_argument("--dtype", default="float32")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    collection = shortened(load_collection(arguments.data, arguments.split, limit=arguments.limit), arguments.depth)
    with tempfile.TemporaryDirectory() as name:
        caches = make_caches(arguments.model, collection, Path(name))
        num_passages = len(collection.passages)
        sizes = {
            name: sum(path.stat().st_size for path in cache.iterdir()) / num_passages for name, cache in caches.items()
        }
        options = {"device": "cpu", "backend": arguments.backend, "dtype": arguments.dtype}
        rerankers = {BASE: Reranker(arguments.model, **options)}
        rerankers |= {name: Reranker(arguments.model, passage_cache=cache, **options) for name, cache in caches.items()}
        rows = measure(collection, rerankers, sizes, arguments.repeats)
    print(f"{collection.name}, {len(collection.queries)} queries, {collection.num_candidates} passages to rank")
    print(f"{arguments.backend}, {arguments.dtype}, threads: {arguments.threads}")
    print("cache              passages/s  speed-up  nDCG@10  tau with no cache  largest error  bytes/passage")
    for row in rows:
        print(
            f"{row['cache']:17}  {row['passages_per_second']:10.1f}  {row['speed_up']:8.2f}  {row['ndcg_at_10']:7.4f}"
            f"  {row['kendall_tau']:17.4f}  {row['largest_error']:13.2g}  {row['bytes_per_passage']:13.0f}"
        )
    ran = {"backend": arguments.backend, "dtype": arguments.dtype}
    print_json({"benchmark": "passage_cache", "data": collection.name, "depth": arguments.depth, **ran, "rows": rows})


if __name__ == "__main__":
    main()
