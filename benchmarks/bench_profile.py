"""Question: where does the time of a ranking go?

Regime: compute-bound on a CPU; real queries with their first-stage candidates. Python's own profiler tells the share of
each part: texts to tokens and plans, embeddings, layers, what the head does. With openvino a second table splits the
layers by kind of operation, as openvino's counters have it. Both slow down what they watch: compare shares, not speeds.

    python benchmarks/bench_profile.py --data FOLDER [--limit N] [--model NAME] [--backend openvino] [--dtype int8]
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from harness import print_json
from ranking_sets import measured_queries

from gliclass_rerank import Reranker

# Cumulative times of functions, none of which calls another one of the list: file's ending and function.
PARTS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "texts to tokens, plans": (
        ("reranker.py", "rank_many"),
        ("prompt/planner.py", "plan"),
        ("model/batch.py", "length_groups"),
    ),
    "tokens to batches": (("model/batch.py", "of"),),
    "embeddings": (("blocks/runner.py", "embed"),),
}
# Their cumulative times are those of the layers and the embeddings.
LAYERS = ("encode_query", "encode_candidates", "encode_windows")
REST = "head and everything else"


def main() -> None:
    """Print the tables and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of a collection")
    parser.add_argument("--limit", type=int, default=5, help="queries at most; one more warms up")
    parser.add_argument("--model")
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--dtype")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    operations: Counter[str] = Counter()
    if arguments.backend == "openvino":
        count_operations(operations)
    reranker = Reranker(arguments.model, device="cpu", backend=arguments.backend, dtype=arguments.dtype)
    collection = measured_queries(arguments.data, limit=arguments.limit + 1, depth=100)
    asks = [
        (text, [collection.passages[name] for name in collection.candidates[query]])
        for query, text in collection.queries.items()
    ]
    reranker.rank(*asks[0])
    operations.clear()
    with cProfile.Profile() as profile:
        for query, passages in asks[1:]:
            reranker.rank(query, passages)
    shares = parts_of(pstats.Stats(profile))
    print_shares("part", shares)
    if operations:
        print_shares("operation of the layers", dict(operations.most_common(12)))
    print_json(
        {
            "benchmark": "profile",
            "data": collection.name,
            "queries": len(asks) - 1,
            "backend": reranker.backend,
            "dtype": reranker.dtype,
            "seconds": shares,
            "operations_us": dict(operations.most_common()),
        }
    )


def parts_of(stats: pstats.Stats) -> dict[str, float]:
    """Seconds of each part of a ranking."""
    rows: dict[tuple[str, int, str], Any] = stats.stats  # type: ignore[attr-defined] # what `print_stats` prints

    def seconds(ending: str, function: str) -> float:
        return sum(
            float(row[3]) for (file, _, name), row in rows.items() if name == function and file.endswith("/" + ending)
        )

    found = {part: sum(seconds(*where) for where in functions) for part, functions in PARTS.items()}
    # Of the classes that have these functions, one runs; an interface's own are never called.
    encoding = sum(seconds(file, name) for file in ("exported.py", "runner.py") for name in LAYERS)
    found["layers"] = encoding - found["embeddings"]
    return {**found, REST: seconds("rerank.py", "rank") - sum(found.values())}


def count_operations(found: Counter[str]) -> None:
    """Let every network that openvino loads from now on add its operations' microseconds to a counter."""
    import openvino

    def counting(load: Callable[..., Any]) -> Callable[..., Any]:  # Any: openvino has no types
        def loaded(core: Any, model: Any, device: str, settings: Mapping[str, Any]) -> Any:
            network = load(core, model, device, {**settings, "PERF_COUNT": True})
            create = network.create_infer_request

            def request() -> Any:
                own = create()
                infer = own.infer

                def counted(*inputs: Any, **options: Any) -> Any:
                    outputs = infer(*inputs, **options)
                    for node in own.profiling_info:
                        found[f"{node.node_type}, {node.exec_type}"] += round(node.real_time.total_seconds() * 1e6)
                    return outputs

                own.infer = counted
                return own

            network.create_infer_request = request
            return network

        return loaded

    # What an earlier process compiled is imported.
    for name in ("compile_model", "import_model"):
        setattr(openvino.Core, name, counting(getattr(openvino.Core, name)))


def print_shares(title: str, amounts: Mapping[str, float]) -> None:
    """One table: each amount's share of all."""
    total = sum(amounts.values())
    print(f"\n| {title} | share |\n|---|---|")
    for name, amount in amounts.items():
        print(f"| {name} | {amount / total:.0%} |")


if __name__ == "__main__":
    main()
