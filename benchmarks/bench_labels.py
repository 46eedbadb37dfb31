"""Question: how many texts a second do we classify with more and more labels?

Two tables. The first has one text of 256 words and short labels (a word each): one pass for all labels, as
`ZeroShotClassifier` makes it, beside one pass for each label, as a cross-encoder makes them; "kept" is the share of the
single label's texts/s. The second has 100 texts of mixed length and 64 labels beside `gliclass`'s own pipeline on the
same checkpoint.

Regime: compute-bound on a CPU. The random checkpoint has the bundled model's size and the layout of upstream's.

Ceiling: n labels of one token add 2n tokens (each with its marker) to the text's 256 under `joint`, so by tokens alone
128 labels keep a half. Under `shared_query` they add 3n, which keeps 40 %, read beside the text's keys and values. A
pass of its own for each of 128 labels keeps 1/128.

    python benchmarks/bench_labels.py [--threads N] [--repeats N]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from contestants import BACKENDS, check_precision, opened
from harness import print_json, take_turns
from loads import Texts
from networks import words, write_checkpoint
from tokenizers import Tokenizer

from gliclass_rerank import ZeroShotClassifier
from gliclass_rerank.checkpoint.loading import load_checkpoint
from gliclass_rerank.model.config import AttentionPlan
from gliclass_rerank.runtime.resolve import BackendName

NUM_LABELS = tuple(2**power for power in range(8))
TEXT_WORDS = 256
PIPELINE_LABELS = 64
PIPELINE = "gliclass pipeline, torch float32"

Classify = Callable[[Any], object]  # Any: a round's texts or labels


def scaling(
    classifiers: dict[str, ZeroShotClassifier], text: Texts, counts: Sequence[int], repeats: int
) -> list[dict[str, Any]]:
    """One text: texts/s by number of labels, together and one by one."""
    rows = []
    for count in counts:
        rounds = [(text(TEXT_WORDS), text(count).split()) for _ in range(1 + repeats)]
        runs: dict[str, Classify] = {}
        for name, classifier in classifiers.items():
            runs[f"{name}, together"] = lambda ask, own=classifier: own(*ask)
            runs[f"{name}, one by one"] = lambda ask, own=classifier: own(
                [ask[0]] * len(ask[1]), [[label] for label in ask[1]]
            )
        speeds = {name: 1 / seconds for name, seconds in medians(runs, rounds).items()}
        for name in classifiers:
            together, alone = (speeds[f"{name}, {way}"] for way in ("together", "one by one"))
            rows.append({"name": name, "labels": count, "texts_per_second": together, "one_by_one": alone})
    single = {row["name"]: row["texts_per_second"] for row in rows if row["labels"] == counts[0]}
    return [{**row, "kept": row["texts_per_second"] / single[row["name"]]} for row in rows]


def beside_pipeline(
    pipeline: Classify, classifiers: dict[str, ZeroShotClassifier], text: Texts, num_texts: int, repeats: int
) -> list[dict[str, Any]]:
    """Texts/s with all texts in one call."""
    rounds = [(text.mixed(num_texts), text(PIPELINE_LABELS).split()) for _ in range(1 + repeats)]
    runs: dict[str, Classify] = {PIPELINE: pipeline}
    runs |= {name: lambda ask, own=own: own(*ask) for name, own in classifiers.items()}
    seconds = medians(runs, rounds)
    return [
        {"name": name, "texts_per_second": num_texts / taken, "ratio": seconds[PIPELINE] / taken}
        for name, taken in seconds.items()
    ]


def medians(runs: dict[str, Classify], rounds: Sequence[Any]) -> dict[str, float]:
    """Median seconds by name; the first round is for warming up."""
    timed = take_turns(runs, rounds, warmup=1)
    return {name: statistics.median(seconds for seconds, _ in kept) for name, kept in timed.items()}


def upstream(folder: Path) -> Classify:
    """The `gliclass` package's pipeline with its defaults."""
    from gliclass import GLiClassModel, ZeroShotClassificationPipeline
    from transformers import AutoTokenizer

    model, tokenizer = GLiClassModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    pipeline = ZeroShotClassificationPipeline(model, tokenizer, device="cpu", progress_bar=False)
    return lambda ask: pipeline(*ask)


def own(model: Path | None, backend: BackendName, dtype: str, plan: AttentionPlan | None) -> ZeroShotClassifier:
    """A classifier of this library."""
    check_precision(backend, dtype)
    return ZeroShotClassifier(model, device="cpu", backend=backend, dtype=dtype, plan=plan)


def main() -> None:
    """Print both tables and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--labels", type=int, nargs="+", default=NUM_LABELS, help="the first is the base")
    parser.add_argument("--texts", type=int, default=100, help="of the second table")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    start = load_checkpoint()
    text = Texts(words(Tokenizer.from_str(start.layout.tokenizer.source)), np.random.default_rng(0))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "marker")
        write_checkpoint(folder, start)
        classifiers, missing = opened({f"joint, {b} {d}": partial(own, folder, b, d, "joint") for b, d in BACKENDS})
        scaled = {
            "the bundled model": ZeroShotClassifier(backend="torch"),
            "random, joint": ZeroShotClassifier(folder, backend="torch", plan="joint"),
            "random, shared_query": ZeroShotClassifier(folder, backend="torch", plan="shared_query"),
        }
        scaling_rows = scaling(scaled, text, arguments.labels, arguments.repeats)
        pipeline_rows = beside_pipeline(upstream(folder), classifiers, text, arguments.texts, arguments.repeats)
    print(f"A text of {TEXT_WORDS} words, torch float32, threads: {arguments.threads}\n")
    print("| | labels | texts/s | kept | one by one, texts/s | |\n|---|---|---|---|---|---|")
    for row in scaling_rows:
        speed, alone = row["texts_per_second"], row["one_by_one"]
        figures = f"{speed:.2f} | {row['kept']:.0%} | {alone:.2f} | {speed / alone:.1f}x"
        print(f"| {row['name']} | {row['labels']} | {figures} |")
    print(f"\n{arguments.texts} texts of mixed length, {PIPELINE_LABELS} labels, a random checkpoint\n")
    print("| | texts/s | |\n|---|---|---|")
    for row in pipeline_rows:
        print(f"| {row['name']} | {row['texts_per_second']:.1f} | {row['ratio']:.2f}x |")
    print("\nNot run:", "; ".join(f"{name}: {reason}" for name, reason in missing.items()) or "nobody")
    settings = {"threads": arguments.threads, "repeats": arguments.repeats}
    print_json(
        {"benchmark": "labels", "scaling": scaling_rows, "pipeline": pipeline_rows, "missing": missing, **settings}
    )


if __name__ == "__main__":
    main()
