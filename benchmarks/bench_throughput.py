"""Question: how many passages a second do we rank, beside what a user would pick instead?

Regime: compute-bound on a CPU. Everybody ranks the same passages in the same run, in turns. All but the trained models
are random networks of MiniLM-L6's size (6 layers, 384 wide), so that only the way to run them differs: `joint` packs
windows, `shared_query` encodes the query once, peers read it with every passage (`peers.py` says how they are made).
A load is `NxL`, or `NxL+P`: N passages of L tokens (`mixed`: log-normal lengths) and a query of 16, behind P tokens of
judged examples, which pairs repeat. `--data` takes real queries with their first-stage candidates, nDCG@10 beside each
trained model. Trained models have 512 positions and take no part with a prefix, nor does the single batch where its
attention scores alone would take more than 1 GiB: of 1,000 passages, one of them long, all it holds is over 20.

Ceiling: by arithmetic `shared_query` needs 0.88 of the pairs' operations at 128 tokens and 0.65 at 32. A head that
reads only the marker's state, as a cross-encoder's reads [CLS], saves most of the last layer besides (a seventh of six
layers); one that compares tokens, as the bundled model's does, cannot.

    python benchmarks/bench_throughput.py [--full] [--threads 1 2] [--loads 100x32 ...] [--data FOLDER] [--peers FOLDER]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from contestants import Contestant, Ours, Runner, opened, ours
from harness import peak_resident_bytes, print_json, take_turns
from loads import Load, Texts, collection_load, random_load
from networks import words, write_checkpoint, write_cross_encoder
from peers import BASES, ONE_BATCH, OpenExported, export, peers
from ranking_sets import ranked
from tokenizers import Tokenizer

from gliclass_rerank import Reranker
from gliclass_rerank.checkpoint.loading import load_checkpoint
from gliclass_rerank.learn.evaluation.ranking import evaluate_run

REAL = "100xmixed"  # stands for real passages where there are none
LOADS = (REAL, "20x32", "20x128+512")
FULL_LOADS = (
    *(f"{number}x{length}" for number in (20, 100, 1000) for length in (32, 128, "mixed")),
    *(f"{number}x128+{prefix}" for number in (20, 100) for prefix in (256, 512)),
)
NUM_HEADS = 12
LARGEST_SCORES = 2**30
SHORT_BASES = ("torch", "ONNX int8", "OpenVINO int8", "single batch")


def race(load: Load, runners: dict[str, Runner], trained: set[str]) -> list[dict[str, Any]]:
    """Let everybody rank everything, in turns.

    Args:
        load: What.
        runners: Who, by name.
        trained: Whose order is measured, on a collection.

    Returns:
        One row for each of them.
    """
    present = {name: runner for name, runner in runners.items() if takes_part(name, runner, load, trained)}
    timed = take_turns({name: runner.scores for name, runner in present.items()}, load.questions, warmup=1)
    questions = load.questions[1:]
    seconds = {name: [taken for taken, _ in rounds] for name, rounds in timed.items()}
    rows = []
    for name, own in seconds.items():
        tokens = [present[name].tokens(question) for question in questions]
        processed = sum(one.processed for one in tokens)
        rows.append(
            {
                "load": load.name,
                "threads": torch.get_num_threads(),
                "name": name,
                "is_ours": isinstance(present[name], Ours),
                "p50_s": statistics.median(own),
                "p95_s": float(np.percentile(own, 95)),
                "passages_per_second": statistics.median(
                    len(question.passages) / taken for question, taken in zip(questions, own, strict=True)
                ),
                "tokens": processed / len(tokens),
                "padding": processed / sum(one.real for one in tokens) - 1,
                "ratios": {
                    base: statistics.median(theirs / taken for theirs, taken in zip(seconds[base], own, strict=True))
                    for base in BASES
                    if base in seconds
                },
                "ndcg_at_10": ndcg(load, [scores for _, scores in timed[name]]) if name in trained else None,
            }
        )
    return rows


def takes_part(name: str, runner: Runner, load: Load, trained: set[str]) -> bool:
    """Whether it has the positions and the memory for a load."""
    if name in trained:
        return not load.prefix_tokens
    if name != ONE_BATCH:
        return True
    scores = (NUM_HEADS * runner.tokens(each).processed ** 2 / len(each.passages) for each in load.questions)
    return max(scores) * np.float32().nbytes <= LARGEST_SCORES


def ndcg(load: Load, scores: Sequence[Sequence[float]]) -> float | None:
    """nDCG@10 of a collection's queries; None for random words."""
    if load.collection is None:
        return None
    by_query = {name: list(own) for name, own in zip(load.collection.queries, scores, strict=True)}
    return evaluate_run(load.collection.qrels, ranked(load.collection, by_query)).ndcg_at_10


def peak_bytes(contestant: Contestant | None, load: Load, threads: int) -> int:
    """The most memory of this process, made for it, when it loads a contestant (None: nobody) and ranks once."""
    torch.set_num_threads(threads)
    if contestant is not None:
        runner = contestant.open()
        runner.scores(load.questions[0])
    return peak_resident_bytes()


def memory(contestants: Sequence[Contestant], load: Load, threads: int) -> dict[str, int]:
    """Bytes by name, each found in a process of its own; the first is that of the imports alone."""
    context = get_context("forkserver")  # imports once; what is forked has run nothing yet
    context.set_forkserver_preload(["bench_throughput"])
    found = {}
    for name, contestant in {
        "torch and transformers, nothing loaded": None,
        **{c.name: c for c in contestants},
    }.items():
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            found[name] = pool.submit(peak_bytes, contestant, load, threads).result()
    return found


def print_header() -> None:
    """The first two lines of the table."""
    against = " | ".join(f"x {base}" for base in SHORT_BASES)
    print(f"| load | threads | | p50 s | p95 s | passages/s | {against} | tokens | padding | nDCG@10 |")
    print(f"|{'---|' * (9 + len(BASES))}")


def print_rows(rows: Sequence[dict[str, Any]]) -> None:
    """One load's lines of the table, at once: a stopped run has told what it found."""
    for row in rows:
        ratios = " | ".join(f"{row['ratios'][base]:.2f}" if base in row["ratios"] else "" for base in BASES)
        quality = "" if row["ndcg_at_10"] is None else f"{row['ndcg_at_10']:.3f}"
        print(
            f"| {row['load']} | {row['threads']} | {row['name']} | {row['p50_s']:.3f} | {row['p95_s']:.3f} | "
            f"{row['passages_per_second']:.1f} | {ratios} | {row['tokens']:.0f} | {row['padding']:.0%} | {quality} |",
            flush=True,
        )


def plot(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Bars of passages/s, one panel a load and number of threads."""
    from matplotlib.figure import Figure

    panels = list(dict.fromkeys((row["load"], row["threads"]) for row in rows))
    names = list(dict.fromkeys(row["name"] for row in rows))
    figure = Figure(figsize=(11, 0.8 + len(panels) * (0.6 + 0.22 * len(names))), layout="constrained")
    for axes, panel in zip(figure.subplots(len(panels), squeeze=False)[:, 0], panels, strict=True):
        own = [row for row in rows if (row["load"], row["threads"]) == panel]
        colours = ["tab:red" if row["is_ours"] else "tab:gray" for row in own]
        axes.barh([row["name"] for row in own], [row["passages_per_second"] for row in own], color=colours)
        axes.invert_yaxis()
        axes.set_xlabel("passages/s")
        axes.set_title(f"{panel[0]}, {panel[1]} threads" if panel[1] > 1 else f"{panel[0]}, 1 thread")
        axes.grid(axis="x", alpha=0.3)
        axes.set_axisbelow(True)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Run all loads; print the tables and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="all loads, 1 and 2 threads: hours")
    parser.add_argument("--threads", type=int, nargs="+")
    parser.add_argument("--repeats", type=int, default=3, help="timed rounds of a load of random words")
    parser.add_argument("--loads", nargs="*")
    parser.add_argument("--only", nargs="+", help="parts of names of contestants")
    parser.add_argument("--data", type=Path, help="folder of a collection")
    parser.add_argument("--limit", type=int, default=10, help="queries of the collection at most")
    parser.add_argument("--peers", type=Path, help="folder of the trained ONNX peers")
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    threads = arguments.threads or ([1, 2] if arguments.full else [1])
    with tempfile.TemporaryDirectory() as folder:
        marker, pairs = Path(folder, "marker"), Path(folder, "pairs")
        start = load_checkpoint()
        write_checkpoint(marker, start)
        write_cross_encoder(pairs, start)
        contestants = [*peers(pairs, arguments.peers and arguments.peers / "reranker_en"), *ours(marker)]
        if arguments.only is not None:
            contestants = [one for one in contestants if any(part in one.name for part in arguments.only)]
        if any(isinstance(one.open, OpenExported) and one.open.folder == pairs for one in contestants):
            export(pairs)
        loads = chosen_loads(
            arguments,
            Texts(words(Tokenizer.from_str(start.layout.tokenizer.source)), np.random.default_rng(0)),
            Reranker(marker, backend="torch"),
        )
        trained = {one.name for one in contestants if one.is_trained}
        rows: list[dict[str, Any]] = []
        print_header()
        for number in threads:
            torch.set_num_threads(number)
            runners, missing = opened({one.name: one.open for one in contestants})
            for load in loads:
                of_load = race(load, runners, trained)
                print_rows(of_load)
                rows += of_load
        ran = {row["name"] for row in rows if row["load"] == loads[0].name}  # who would need too much is not raced
        peaks = memory([one for one in contestants if one.name in ran], loads[0], threads[0])
    print(f"\nPeak resident memory of a process that ranks {loads[0].name} only, threads: {threads[0]}\n")
    print("| | MiB |\n|---|---|")
    for name, size in peaks.items():
        print(f"| {name} | {size / 2**20:.0f} |")
    print("\nNot run:", "; ".join(f"{name}: {reason}" for name, reason in missing.items()) or "nobody")
    if arguments.plot is not None:
        plot(rows, arguments.plot)
    print_json({"benchmark": "throughput", "rows": rows, "peak_bytes": peaks, "missing": missing})


def chosen_loads(arguments: argparse.Namespace, text: Texts, reader: Reranker) -> list[Load]:
    """The loads to run, a collection first."""
    found = [] if arguments.data is None else [collection_load(arguments.data, limit=arguments.limit)]
    specs = arguments.loads
    if specs is None:
        specs = FULL_LOADS if arguments.full else [spec for spec in LOADS if not (found and spec == REAL)]
    return found + [random_load(spec, text, reader, rounds=arguments.repeats) for spec in specs]


if __name__ == "__main__":
    main()
