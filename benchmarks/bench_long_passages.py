"""Question: do passages that are too long rank better by their best chunk than by their beginning, and at what cost?

    python benchmarks/bench_long_passages.py --data RERANK_FOLDER [--sets FOLDER:SPLIT ...] [--limit N] [--depth N]

A set without candidates gets its BM25 top 100, over the whole corpus. `FOLDER:SPLIT+N` joins N consecutive passages of
one title to a document, so that most answers lie beyond its beginning. Queries whose candidates hold no long passage
are measured too. Tokens are those that the first model reads; the second one of a cascade reads one chunk of each of
its best passages, so that it costs the same either way. p: two-sided paired randomisation test over queries of nDCG@10
against `cut`.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from harness import print_json
from paired import p_value
from ranking_sets import headed, spread_queries

from gliclass_rerank import Reranker
from gliclass_rerank.learn.evaluation.collection import Collection, folder_and_split, load_collection
from gliclass_rerank.learn.evaluation.files import existing, read_jsonl
from gliclass_rerank.learn.evaluation.ranking import evaluate_queries

SETS = ("train/medquad:dev", "train/desktop_help:train", "eval/cisi:test", "train/squad2_dev:dev+5")
WAYS = ("cut", "best_chunk")
DEPTH = 100


def collection_of(folder: Path, split: str, *, limit: int, depth: int, join: int) -> Collection:
    """Queries evenly spread over a split, with the first candidates of each."""
    some = spread_queries(load_collection(folder, split), limit)
    return headed(some if join == 1 else joined(some, folder, join), depth)


def joined(collection: Collection, folder: Path, count: int) -> Collection:
    """The collection with `count` consecutive passages of one title as one document."""
    groups: list[list[tuple[str, str]]] = []
    title = None
    for record in read_jsonl(required(folder / "corpus.jsonl")):
        if record.string("title") != title or len(groups[-1]) == count:
            title = record.string("title")
            groups.append([])
        groups[-1].append((record.string("id"), record.string("text")))
    document = {name: group[0][0] for group in groups for name, _ in group}
    texts = {group[0][0]: " ".join(text for _, text in group) for group in groups}
    grades: dict[str, dict[str, int]] = {}
    for query, judged in collection.qrels.items():
        grades[query] = {}
        for name, grade in judged.items():
            grades[query][document[name]] = max(grade, grades[query].get(document[name], 0))
    candidates = {
        query: tuple(dict.fromkeys(document[name] for name in ids)) for query, ids in collection.candidates.items()
    }
    return replace(
        collection, name=f"{collection.name}, {count} joined", passages=texts, qrels=grades, candidates=candidates
    )


def required(path: Path) -> Path:
    """A file, plain or gzipped."""
    found = existing(path)
    assert found is not None, f"{path} is missing"
    return found


def measured(collection: Collection, rerankers: dict[str, Reranker]) -> list[dict[str, Any]]:
    """A row for each way; all take turns at every query."""
    runs: dict[str, dict[str, tuple[str, ...]]] = {name: {} for name in rerankers}
    seconds, tokens = dict.fromkeys(rerankers, 0.0), dict.fromkeys(rerankers, 0)
    num_long = 0
    for query_id, query in collection.queries.items():
        ids = collection.candidates[query_id]
        passages = [collection.passages[doc_id] for doc_id in ids]
        for name, reranker in rerankers.items():
            started = time.perf_counter()
            ranking = reranker.rank(query, passages)
            seconds[name] += time.perf_counter() - started
            runs[name][query_id] = tuple(ids[hit.index] for hit in ranking)
            tokens[name] += ranking.num_tokens
            num_long += len(ranking.truncated) if name == WAYS[0] else 0
    quality = {name: evaluate_queries(collection.qrels, run) for name, run in runs.items()}
    figures = {name: [each.ndcg_at_10 for each in found.values()] for name, found in quality.items()}
    return [
        {
            "collection": collection.name,
            "queries": len(collection.queries),
            "passages": collection.num_candidates,
            "long": num_long / collection.num_candidates,
            "way": name,
            "ndcg@10": sum(figures[name]) / len(figures[name]),
            "p": None if name == WAYS[0] else p_value(figures[WAYS[0]], figures[name]),
            "tokens": tokens[name] / tokens[WAYS[0]],
            "seconds": seconds[name] / seconds[WAYS[0]],
        }
        for name in rerankers
    ]


def main() -> None:
    """Print a row a set and way, then one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--depth", type=int, default=DEPTH)
    parser.add_argument("--model")
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--dtype")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    settings = {"device": "cpu", "backend": arguments.backend, "dtype": arguments.dtype}
    rerankers = {way: Reranker(arguments.model, long_passages=way, **settings) for way in WAYS}
    rows = []
    for name in arguments.sets:
        path, _, join = str(arguments.data / name).partition("+")
        folder, split = folder_and_split(path, "test")
        collection = collection_of(folder, split, limit=arguments.limit, depth=arguments.depth, join=int(join or 1))
        rows += measured(collection, rerankers)
        for row in rows[-len(WAYS) :]:
            print(
                " | ".join(
                    f"{key} {value:.4f}" if isinstance(value, float) else str(value) for key, value in row.items()
                ),
                flush=True,
            )
    facts = {"model": rerankers["cut"].name, "backend": rerankers["cut"].backend, "dtype": rerankers["cut"].dtype}
    print_json(
        {"benchmark": "long passages", **facts, "depth": arguments.depth, "limit": arguments.limit, "rows": rows}
    )


if __name__ == "__main__":
    main()
