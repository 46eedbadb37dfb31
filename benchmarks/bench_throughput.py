"""Question: how many passages a second do both plans rank, beside a pairwise cross-encoder of the same size?

Regime: compute-bound on a CPU, torch float32, one query of 16 tokens against 100 passages of equal length (so padding
plays no part) and against 100 passages of log-normal length (so it does). The network is a random BERT of MiniLM-L6's
size (6 layers, 384 wide) on all sides: `sentence_transformers.CrossEncoder` scores pairs from their [CLS] states,
`joint` packs windows, `shared_query` encodes the query once.

Ceiling: by arithmetic `shared_query` needs 0.88 of the pairs' operations at 128 tokens and 0.65 at 32. A head that
reads only the marker's state, as a cross-encoder's reads [CLS], saves most of the last layer besides (a seventh of six
layers); one that averages a passage's tokens, as the bundled model's does, cannot.

    python benchmarks/bench_throughput.py [--threads N] [--repeats N]
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from harness import interleaved_medians, print_json
from networks import words, write_checkpoint, write_cross_encoder
from sentence_transformers import CrossEncoder
from tokenizers import Tokenizer

from gliclass_rerank import Reranker
from gliclass_rerank.checkpoint import load_checkpoint
from gliclass_rerank.engine.engine import length_groups
from gliclass_rerank.inputs.layout import Ask
from gliclass_rerank.location import DEFAULT_MODEL
from gliclass_rerank.types import Blocks, Window

NUM_PASSAGES = 100
QUERY_TOKENS = 16


@dataclass(frozen=True)
class Load:
    """What is ranked.

    Attributes:
        name: Row of the table.
        query: The query.
        passages: The passages.
    """

    name: str
    query: str
    passages: list[str]


def make_loads(vocabulary: list[str]) -> list[Load]:
    """Loads of random words; seeded."""
    generator = np.random.default_rng(0)

    def text(num_tokens: int) -> str:
        return " ".join(generator.choice(vocabulary, num_tokens))

    query = text(QUERY_TOKENS)
    mixed = np.clip(generator.lognormal(4.4, 0.6, NUM_PASSAGES), 8, 400).astype(int)
    return [
        Load("L=128", query, [text(128) for _ in range(NUM_PASSAGES)]),
        Load("L=32", query, [text(32) for _ in range(NUM_PASSAGES)]),
        Load(f"mixed, mean {mixed.mean():.0f}", query, [text(int(length)) for length in mixed]),
    ]


def tokens_processed(reranker: Reranker, load: Load) -> tuple[int, int]:
    """Real and processed tokens of one ranking, counted from the plan and the batches that the reranker runs."""
    scorer = reranker._scorer
    plan = scorer._planner.plan(Ask(text=load.query, candidates=load.passages), yielding="candidates")
    real = processed = 0
    for request in plan.requests:
        if isinstance(request, Blocks):
            lengths = {index: len(ids) for index, ids in enumerate(request.candidate_ids)}
            real += len(request.query_ids) + sum(lengths.values())
            processed += len(request.query_ids) + padded(lengths, scorer._engine._batch_tokens)
    windows = {i: len(request.token_ids) for i, request in enumerate(plan.requests) if isinstance(request, Window)}
    return real + sum(windows.values()), processed + padded(windows, scorer._engine._batch_tokens)


def padded(lengths: dict[int, int], batch_tokens: int) -> int:
    """Tokens of the engine's batches, padding included."""
    return sum(len(group) * max(lengths[item] for item in group) for group in length_groups(lengths, batch_tokens))


def pair_tokens(cross_encoder: CrossEncoder, load: Load, batch_size: int) -> tuple[int, int]:
    """Real and processed tokens of the pairs, in sentence-transformers' length-sorted batches."""
    encoded = cross_encoder.tokenizer([load.query] * NUM_PASSAGES, load.passages)["input_ids"]
    lengths = sorted((len(ids) for ids in encoded), reverse=True)
    batches = [lengths[start : start + batch_size] for start in range(0, len(lengths), batch_size)]
    return sum(lengths), sum(batch[0] * len(batch) for batch in batches)


def main() -> None:
    """Run all loads and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    start = load_checkpoint()
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(Path(folder, "marker"), start)
        write_cross_encoder(Path(folder, "pairs"), start)
        pairs = CrossEncoder(str(Path(folder, "pairs")), device="cpu", max_length=512)
        plans = {
            "joint": Reranker(Path(folder, "marker"), plan="joint", device="cpu"),
            "shared_query": Reranker(Path(folder, "marker"), plan="shared_query", device="cpu"),
            "the bundled model": Reranker(device="cpu"),
        }
        loads = make_loads(words(Tokenizer.from_str(start.layout.tokenizer.source)))
        rows = [bench_load(load, pairs, plans, arguments.repeats) for load in loads]
    print(
        f"q={QUERY_TOKENS}, N={NUM_PASSAGES}, random BERT of {DEFAULT_MODEL}'s size, torch float32, "
        f"{arguments.threads} threads, median of {arguments.repeats}"
    )
    print(
        "| load | scorer | passages/s | against CrossEncoder | tokens processed | padding |\n|---|---|---|---|---|---|"
    )
    for row in rows:
        for name, figures in row["scorers"].items():
            print(
                f"| {row['load']} | {name} | {figures['passages_per_second']:.0f} | {figures['ratio']:.2f}x | "
                f"{figures['tokens']} | {figures['padding']:.1%} |"
            )
    print_json({"benchmark": "throughput", "query_tokens": QUERY_TOKENS, "passages": NUM_PASSAGES, "rows": rows})


def bench_load(load: Load, pairs: CrossEncoder, plans: dict[str, Reranker], repeats: int) -> dict[str, object]:
    """Time all scorers on one load."""
    texts = [(load.query, passage) for passage in load.passages]
    runs = {"CrossEncoder, batch 32": lambda: pairs.predict(texts, show_progress_bar=False)}
    counts = {"CrossEncoder, batch 32": pair_tokens(pairs, load, 32)}
    for plan, reranker in plans.items():
        runs[plan] = lambda reranker=reranker: reranker.rank(load.query, load.passages)
        counts[plan] = tokens_processed(reranker, load)
    seconds = interleaved_medians(runs, repeats=repeats)
    base = seconds["CrossEncoder, batch 32"]
    scorers = {
        name: {
            "passages_per_second": NUM_PASSAGES / median,
            "ratio": base / median,
            "tokens": counts[name][1],
            "padding": counts[name][1] / counts[name][0] - 1,
        }
        for name, median in seconds.items()
    }
    return {"load": load.name, "scorers": scorers}


if __name__ == "__main__":
    main()
