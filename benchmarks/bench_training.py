"""Question: how many tokens does training a model take in a second, and where does the time go?

Regime: the trainer itself, in turns with sequences packed (`packed: true`) and padded (`packed: false`), on lists of
random words: 12 passages of 8 to 240 tokens, a query of 10, scores of a teacher, some lists with examples; or on a file
of ranking records. Tokens are counted without padding. Of the steps after the first two, the median and the fastest
are given, and what a second of one processor does, which other work on the machine disturbs least. The profile is of a
few more steps in one process.

    python benchmarks/bench_training.py [--model NAME] [--data FILE] [--steps N] [--processes N] [--threads N]
        [--frozen-layers N] [--queries-per-step N] [--precision NAME] [--engines NAME ...] [--profile-steps N]
        [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from harness import cpu_seconds, environment, print_json
from networks import words
from tokenizers import Tokenizer
from torch.profiler import ProfilerActivity, profile

from gliclass_rerank.checkpoint.loading import load_checkpoint
from gliclass_rerank.checkpoint.location import locate
from gliclass_rerank.learn.training import LossConfig, SourceConfig, StartConfig, TrainConfig, train
from gliclass_rerank.learn.training.curves import read_rows

ENGINES: Final = {"padded": False, "packed": True}
WARMUP: Final = 2
PASSAGES: Final = 12
# Shares of lists with so many examples.
EXAMPLES: Final = {0: 0.8, 1: 0.1, 3: 0.1}
# By parts of the names of torch's operators; the first that fits counts.
KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    "attention": ("bmm", "softmax", "scaled_dot_product", "flash_attention"),
    "matrix products": ("aten::mm", "addmm", "mkldnn_linear", "linear"),
    "casts and copies": ("copy_", "_to_copy", "aten::cat", "contiguous"),
    "norms and activations": ("layer_norm", "gelu"),
    "optimizer": ("adam", "_foreach", "clip"),
}


def write_lists(path: Path, model: str, count: int) -> None:
    """Write lists of random words.

    Args:
        path: The file.
        model: A bundled model or folder; its words that are one token are used.
        count: Lists.
    """
    source = load_checkpoint(str(locate(model))).layout.tokenizer.source
    vocabulary = words(Tokenizer.from_str(source))
    rng = np.random.default_rng(0)

    def text(length: int) -> str:
        return " ".join(rng.choice(vocabulary, length))

    with path.open("w", encoding="utf-8") as file:
        for _ in range(count):
            lengths = np.clip(rng.lognormal(4.4, 0.6, PASSAGES), 8, 240).astype(int)
            shown = rng.choice(list(EXAMPLES), p=list(EXAMPLES.values()))
            record = {
                "query": text(10),
                "passages": [text(length) for length in lengths],
                "teacher_scores": {"random": rng.normal(0, 4, PASSAGES).tolist()},
                "examples": [{"text": text(10), "true_labels": [text(30)], "false_labels": []} for _ in range(shown)],
            }
            file.write(json.dumps(record) + "\n")


def measured(config: TrainConfig, folder: Path) -> dict[str, Any]:
    """Train, and read from its journal how fast it was.

    Args:
        config: The run.
        folder: For its files; emptied.

    Returns:
        Tokens a second of the median and the fastest step, tokens of a step, share of padding, last loss.
    """
    spent: list[float] = []
    train(replace(config, output=folder), fresh=True, on_report=lambda _: spent.append(cpu_seconds()))
    rows = read_rows(folder / "train.csv")[WARMUP:]
    rates = [row["tokens"] / row["seconds"] for row in rows]
    tokens = sum(row["tokens"] for row in rows)
    return {
        "tokens_per_second": statistics.median(rates),
        "fastest": max(rates),
        "tokens_per_cpu_second": tokens / (spent[-1] - spent[WARMUP - 1]),
        "tokens_per_step": tokens / len(rows),
        "padding": 1 - tokens / sum(row["padded_tokens"] for row in rows),
        "loss": rows[-1]["loss"],
    }


def profiled(config: TrainConfig, folder: Path) -> dict[str, float]:
    """The shares of a single process's time, by kind of operator."""
    config = replace(config, output=folder, processes=1, threads=1)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        train(config, fresh=True)
    times: Counter[str] = Counter()
    for event in profiler.key_averages():
        times[kind_of(event.key)] += event.self_cpu_time_total
    return {kind: times[kind] / times.total() for kind in (*KINDS, "rest")}


def kind_of(operator: str) -> str:
    """The kind of an operator, by its name."""
    name = operator.lower()
    return next((kind for kind, parts in KINDS.items() if any(part in name for part in parts)), "rest")


def main() -> None:
    """Print two tables, then one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="minilm-l6-v1", help="a bundled model, or a folder")
    parser.add_argument("--data", type=Path, help="ranking records with scores of one teacher; else random words")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=2, help="turns")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--threads", type=int, help="of each process")
    parser.add_argument("--frozen-layers", type=int, default=2)
    parser.add_argument("--queries-per-step", type=int, default=8)
    parser.add_argument("--precision", default="bfloat16")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--profile-steps", type=int, default=2, help="0 for no profile")
    parser.add_argument("--json", type=Path, help="where the result goes too")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, data = Path(name), arguments.data
        if data is None:
            data = folder / "lists.jsonl"
            write_lists(data, arguments.model, 200)
        with data.open(encoding="utf-8") as file:
            teachers = tuple(json.loads(file.readline())["teacher_scores"])[:1]
        source = SourceConfig(
            path=data,
            kind="ranking",
            max_candidates=PASSAGES,
            losses=(LossConfig(name="kl", teachers=teachers, temperature=1.5, teacher_temperature=1.5),),
        )
        config = TrainConfig(
            output=folder / "run",
            sources=(source,),
            start=StartConfig(model=str(locate(arguments.model))),
            steps=arguments.steps + WARMUP,
            queries_per_step=arguments.queries_per_step,
            frozen_layers=arguments.frozen_layers,
            freeze_embeddings=arguments.frozen_layers > 0,
            precision=arguments.precision,
            processes=arguments.processes,
            threads=arguments.threads,
            device="cpu",
            checkpoint_every=10**6,
            plot=False,
        )
        rounds: dict[str, list[dict[str, Any]]] = {engine: [] for engine in arguments.engines}
        for _ in range(arguments.rounds):
            for engine, found in rounds.items():
                found.append(measured(replace(config, packed=ENGINES[engine]), folder / "run"))
        shares = {
            engine: profiled(replace(config, packed=ENGINES[engine], steps=arguments.profile_steps), folder / "run")
            for engine in (rounds if arguments.profile_steps else ())
        }
    print_tables(rounds, shares)
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(arguments).items()}
    result = {"benchmark": "training", "settings": settings, "rounds": rounds, "profile": shares}
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"environment": environment(), **result}, indent=2) + "\n")
    print_json(result)


def print_tables(rounds: Mapping[str, list[dict[str, Any]]], shares: Mapping[str, Mapping[str, float]]) -> None:
    """Speed by engine and round, then where the time goes."""
    print(
        "| engine | round | tokens/s, median step | fastest | by processor time | tokens a step | padding | last loss |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for engine, found in rounds.items():
        for number, row in enumerate(found, start=1):
            print(
                f"| {engine} | {number} | {row['tokens_per_second']:,.0f} | {row['fastest']:,.0f} | "
                f"{row['tokens_per_cpu_second']:,.0f} | "
                f"{row['tokens_per_step']:,.0f} | {row['padding']:.0%} | {row['loss']:.4f} |"
            )
    if not shares:
        return
    print(f"\n| time of one process | {' | '.join(shares)} |\n|---|{'---|' * len(shares)}")
    for kind in (*KINDS, "rest"):
        print(f"| {kind} | {' | '.join(f'{share[kind]:.0%}' for share in shares.values())} |")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
