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
from pathlib import Path

import torch
from harness import print_json
from versions import measure, print_table

from gliclass_rerank import Reranker
from gliclass_rerank.learn.evaluation.collection import load_collection

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
    print_table(collection, rows)
    print_json({"benchmark": "backends", "data": collection.name, "rows": rows})


if __name__ == "__main__":
    main()
