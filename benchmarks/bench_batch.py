"""Question: what does a batch job cost beside the library, and how much can one driver feed?

Regime: compute-bound on a CPU; processor time of this process, so that a busy machine changes little. Rows of passages
of about 100 words. In turns: `rank_many` on all rows, and a whole job (read, rank, store, join). Then what a driver of
`batch --ray` does itself: read the parts and store answers of their size, without ranking. The ceiling of the share is
100 %.

    python benchmarks/bench_batch.py [--model NAME] [--rows 40] [--passages 20] [--rounds 2] [--driver-rows 20000]
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
from harness import print_json
from pyarrow import parquet

from gliclass_rerank import Reranker
from gliclass_rerank.batch.parts import Part
from gliclass_rerank.batch.rows import RowRanker
from gliclass_rerank.batch.run import RankParts, rank_here, run_job
from gliclass_rerank.batch.settings import BatchSettings
from gliclass_rerank.settings import RerankerSettings

WORDS = "chain oil brake wheel saddle rim tyre spoke pump rain hill bike squeal noise lever".split()  # noqa: SIM905

Row = dict[str, object]


def rows_of(count: int, passages: int) -> list[Row]:
    """Rows, all different."""
    rng = random.Random(1)
    return [
        {
            "id": number,
            "query": f"why does the chain slip {number}",
            "passages": [" ".join(rng.choices(WORDS, k=rng.randint(60, 140))) for _ in range(passages)],
        }
        for number in range(count)
    ]


def write(path: Path, rows: list[Row]) -> int:
    """Write rows in the format of the name; bytes of the texts."""
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        parquet.write_table(pa.Table.from_pylist(rows), path)
    return sum(len(json.dumps(row)) for row in rows)


def job_seconds(folder: Path, suffix: str, rank_parts: RankParts) -> float:
    """Processor seconds of a job."""
    source, target = folder / f"in{suffix}", folder / f"out{suffix}"
    target.unlink(missing_ok=True)
    began = time.process_time()
    run_job(source, target, BatchSettings(), RerankerSettings(), (), rank_parts, progress=lambda _: lambda _: None)
    return time.process_time() - began


def echoed(folder: Path, suffix: str) -> RankParts:
    """Instead of workers: the answer of the first part for every one."""
    (answer,) = folder.glob(f"answer{suffix}")
    content = answer.read_bytes()

    def rank_parts(parts: Iterable[Part]) -> Iterator[tuple[Part, bytes]]:
        for part in parts:
            yield part, content

    return rank_parts


def answer_of(folder: Path, suffix: str, ranker: RowRanker) -> RankParts:
    """Rank, and keep the answer of the first part."""
    rank = rank_here(lambda: ranker)

    def rank_parts(parts: Iterable[Part]) -> Iterator[tuple[Part, bytes]]:
        for part, content in rank(parts):
            (folder / f"answer{suffix}").write_bytes(content)
            yield part, content

    return rank_parts


def main() -> None:
    """Print a table, then one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="minilm-l6-v1")
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--rows", type=int, default=40)
    parser.add_argument("--passages", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--driver-rows", type=int, default=20_000)
    arguments = parser.parse_args()
    reranker = Reranker(arguments.model, device="cpu", backend=arguments.backend, threads=1)
    ranker = RowRanker(reranker)
    rows, result = rows_of(arguments.rows, arguments.passages), []
    for suffix in (".jsonl", ".parquet"):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write(folder / f"in{suffix}", rows)
            ranker.answers(rows[:2])  # warm
            library, job = list[float](), list[float]()
            for _ in range(arguments.rounds):
                began = time.process_time()
                reranker.rank_many([row["query"] for row in rows], [row["passages"] for row in rows])  # type: ignore[misc]
                library.append(time.process_time() - began)
                job.append(job_seconds(folder, suffix, answer_of(folder, suffix, ranker)))
            many = rows_of(arguments.driver_rows, arguments.passages)
            size = write(folder / f"in{suffix}", many)
            driver = job_seconds(folder, suffix, echoed(folder, suffix))
            passages = arguments.rows * arguments.passages
            result.append(
                {
                    "format": suffix,
                    "processor_share": statistics.mean(library) / statistics.mean(job),
                    "library_passages_per_processor_s": passages / statistics.mean(library),
                    "driver_bytes_per_processor_s": size / driver,
                    "bytes_per_passage": size / (arguments.driver_rows * arguments.passages),
                }
            )
            print(*result[-1].values())
    print_json({"benchmark": "batch", **vars(arguments), "rows": result})


if __name__ == "__main__":
    main()
