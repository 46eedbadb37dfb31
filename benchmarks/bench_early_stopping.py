"""Question: what does it cost to drop clearly irrelevant passages early, and what does it save?

A cascade of one checkpoint with itself: at first it reads the beginnings of all passages, then the best ones whole, and
what it then says counts. A version `32>30` reads 32 tokens of each at first and 30 passages whole. The checkpoint that
reads everything is the base of all ratios; both take turns at every query.

Regime: compute-bound on a CPU; real queries with their first-stage candidates. Passages of 32 tokens gain nothing from
reading 32 of them.

    python benchmarks/bench_early_stopping.py --data FOLDER [--limit N] [--threads N] [--versions TOKENS>REFINED ...]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from harness import print_json
from ranking_sets import measured_queries
from versions import measure, print_table

from gliclass_rerank import Reranker
from gliclass_rerank.cascade import CascadeConfig, save_cascade
from gliclass_rerank.checkpoint.location import DEFAULT_MODEL, locate

VERSIONS = ("64>30", "64>20", "32>30", "32>20", "16>20")


def cascade(version: str, folder: Path, model: str) -> Path:
    """Write one version's cascade."""
    tokens, refined = map(int, version.split(">"))
    config = CascadeConfig(
        first="model", second="model", rerank_depth=refined, first_weight=0.0, first_passage_tokens=tokens
    )
    save_cascade(config, folder / version, {"model": locate(model)})
    return folder / version


def main() -> None:
    """Print a table, then one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--depth", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--model", default=DEFAULT_MODEL, help="checkpoint whose plan is `shared_query`")
    parser.add_argument("--versions", nargs="+", default=VERSIONS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    collection = measured_queries(arguments.data, limit=arguments.limit, depth=arguments.depth)
    with tempfile.TemporaryDirectory() as scratch:
        rerankers = {"whole": Reranker(arguments.model, backend="torch")}
        for version in arguments.versions:
            rerankers[version] = Reranker(cascade(version, Path(scratch), arguments.model), backend="torch")
        rows = measure(collection, rerankers)
    print_table(collection, rows)
    print_json({"benchmark": "early stopping", "data": collection.name, "model": arguments.model, "rows": rows})


if __name__ == "__main__":
    main()
