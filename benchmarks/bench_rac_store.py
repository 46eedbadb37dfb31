"""Question: what does a store of N judged examples cost: to fill, to open, on the disk, and for each search?

Regime: no model takes part; an "encoder" looks vectors up. Vectors are random and clustered (seeded): a cluster a
hundred vectors, and within it differences of `--latent` dimensions, as sentence vectors differ in far fewer than they
have, plus a little noise in all. Queries are perturbed vectors of the store. Every index is built from the same
records; recall@3 is the share of the three nearest, by exact search, that the store returns.

Ceiling: exact search reads all vectors once a query, 4 * dim bytes each, so it is bound by memory; an example cannot be
added faster than the disk confirms a write (`fsync`).

    python benchmarks/bench_rac_store.py [--num N] [--dim D] [--queries N] [--backends NAME ...] [--threads N]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import print_json
from numpy.typing import NDArray

from gliclass_rerank import Example
from gliclass_rerank.examples import CallableEncoder, ExampleStore
from gliclass_rerank.examples.search import similarities

FloatArray = NDArray[np.float32]
BACKENDS = ("numpy", "faiss_flat", "faiss_hnsw", "faiss_ivf_pq")
K = 3
BATCH = 10_000
SINGLE_ADDS = 50


class Sample:
    """Clustered vectors, made in blocks that depend on nothing but the seed.

    Args:
        dim: Numbers in a vector.
        latent: Dimensions in which vectors of a cluster differ.
        num_clusters: Clusters.
    """

    def __init__(self, dim: int, latent: int, num_clusters: int) -> None:
        generator = np.random.default_rng(0)
        self._mixing = generator.normal(size=(latent, dim)) / np.sqrt(latent)
        self._centres = generator.normal(size=(num_clusters, latent))

    def vectors(self, count: int, *, seed: int) -> FloatArray:
        """FloatArray [count, dim], of unit length."""
        generator = np.random.default_rng(seed)
        latent = self._centres[generator.integers(len(self._centres), size=count)]
        latent = latent + 0.6 * generator.normal(size=latent.shape)
        return perturbed((latent @ self._mixing).astype(np.float32), 0.2, generator)


def perturbed(vectors: FloatArray, noise: float, generator: np.random.Generator) -> FloatArray:
    """Vectors with noise of a share of their length, scaled to length 1."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    moved = unit + noise / np.sqrt(vectors.shape[1]) * generator.normal(size=vectors.shape)
    scaled: FloatArray = (moved / np.linalg.norm(moved, axis=1, keepdims=True)).astype(np.float32)
    return scaled


def exact_answers(vectors: FloatArray, queries: FloatArray) -> list[set[str]]:
    """Ids of the nearest vectors of each query."""
    best: list[list[tuple[float, int]]] = [[] for _ in queries]
    for start in range(0, len(vectors), BATCH):
        block = vectors[start : start + BATCH]
        for number, query in enumerate(queries):
            scores = similarities(block, query)
            found = np.argsort(-scores, kind="stable")[:K]
            best[number] += [(-float(scores[at]), start + int(at)) for at in found]
    return [{str(at) for _, at in sorted(found)[:K]} for found in best]


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Median and 95th percentile in milliseconds."""
    p50, p95 = np.percentile(np.array(seconds) * 1000, [50, 95])
    return {"p50_ms": round(float(p50), 3), "p95_ms": round(float(p95), 3)}


def timed(work: Any) -> tuple[Any, float]:  # Any: whatever the function returns
    """Run a function; its result and the seconds it took."""
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


def fill(path: Path, encoder: CallableEncoder, num: int) -> dict[str, Any]:
    """Write all records, with the exact index."""
    with ExampleStore(path, encoder, backend="numpy") as store:
        seconds = 0.0
        for start in range(0, num, BATCH):
            names = [str(number) for number in range(start, min(start + BATCH, num))]
            examples = [Example(name, ["a passage that answers it"], ["one that does not"]) for name in names]
            seconds += timed(lambda examples=examples, names=names: store.add(examples, ids=names))[1]
    return {"fill_s": round(seconds, 2), "records_mb": round(path.stat().st_size / 1e6, 1)}


def measure(
    path: Path, encoder: CallableEncoder, backend: Any, queries: FloatArray, truth: Sequence[set[str]]
) -> dict[str, Any]:  # Any: one of BACKENDS; figures
    """All figures of one backend."""
    index_path = path.with_name(f"{path.name}.index")
    index_path.unlink(missing_ok=True)
    store, build_s = timed(lambda: ExampleStore(path, encoder, backend=backend))
    _, close_s = timed(store.close)
    index_mb = index_path.stat().st_size / 1e6 if index_path.exists() else 0.0
    store, open_s = timed(lambda: ExampleStore(path, encoder, backend=backend))
    with store:
        store.search(queries[0], K, -1.0)  # warm-up
        found, seconds = [], []
        for query in queries:
            answer, duration = timed(lambda query=query: store.search(query, K, -1.0))
            found.append({hit.id for hit in answer})
            seconds.append(duration)
        together_s = timed(lambda: store.search_many(queries, K, -1.0))[1]
        adds = [
            timed(lambda number=number: store.add([Example(str(number))], ids=[f"new {number}"]))[1]
            for number in range(SINGLE_ADDS)
        ]
        kind = store._index.using(lambda index: index.kind)
        store.delete([f"new {number}" for number in range(SINGLE_ADDS)])
    hits = sum(len(answer & right) for answer, right in zip(found, truth, strict=True))
    return {
        "backend": backend,
        "kind": kind,
        "build_s": round(build_s, 2),
        "save_s": round(close_s, 2),
        "open_s": round(open_s, 2),
        "index_mb": round(index_mb, 1),
        "search": percentiles(seconds),
        "together_ms": round(1000 * together_s / len(queries), 3),
        "add": percentiles(adds),
        "recall_at_3": round(hits / (K * len(queries)), 4),
    }


def main() -> None:
    """Measure all backends and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num", type=int, default=20_000, help="examples")
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--latent", type=int, default=48, help="dimensions in which vectors of a cluster differ")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--backends", nargs="+", default=list(BACKENDS))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--folder", help="where the store is made; None for a temporary folder")
    options = parser.parse_args()

    import faiss

    faiss.omp_set_num_threads(options.threads)
    torch.set_num_threads(options.threads)
    sample = Sample(options.dim, options.latent, max(1, options.num // 100))
    blocks = range(0, options.num, BATCH)
    vectors = np.concatenate([sample.vectors(min(BATCH, options.num - start), seed=start + 1) for start in blocks])
    generator = np.random.default_rng(options.num)
    chosen = generator.choice(options.num, options.queries, replace=False)
    queries = perturbed(vectors[chosen], 0.3, generator)
    truth = exact_answers(vectors, queries)
    probe = np.eye(1, options.dim, dtype=np.float32)[0]

    def look_up(texts: Sequence[str]) -> FloatArray:
        return np.stack([vectors[int(text)] if text.isdigit() else probe for text in texts])

    encoder = CallableEncoder(look_up, name=f"{options.num} random vectors")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder) / "judged.db"
        filled = fill(path, encoder, options.num)
        print(f"{options.num} examples, {options.dim} numbers each: filled in {filled['fill_s']} s, ", end="")
        print(f"records {filled['records_mb']} MB; threads {options.threads}\n")
        print(
            "| backend | build s | open s | index MB | search p50 ms | p95 ms | together ms | add p50 ms | recall@3 |"
        )
        print("|---|---|---|---|---|---|---|---|---|")
        rows = []
        for backend in options.backends:
            row = measure(path, encoder, backend, queries, truth)
            rows.append(row)
            print(
                f"| {row['backend']} ({row['kind']}) | {row['build_s']} | {row['open_s']} | {row['index_mb']} "
                f"| {row['search']['p50_ms']} | {row['search']['p95_ms']} | {row['together_ms']} "
                f"| {row['add']['p50_ms']} | {row['recall_at_3']} |",
                flush=True,
            )
    settings = {name: value for name, value in vars(options).items() if name != "folder"}
    print_json({"benchmark": "rac_store", **settings, "cpus": os.cpu_count(), "filled": filled, "results": rows})


if __name__ == "__main__":
    main()
