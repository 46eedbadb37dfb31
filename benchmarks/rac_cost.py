"""Passages/s when a prefix of examples is read with every query: once a query against once a passage.

Regime: compute-bound, torch float32, random networks of the bundled model's size with enough positions (`networks.py`),
one query of 16 tokens against passages of equal length, so padding plays no part. `shared_query` reads query and
examples once, in a block that every passage attends to in all layers; `sentence_transformers.CrossEncoder` reads pairs
of which the first half begins with as many tokens, which is what a model without such a plan has to do. All loads are
timed in turn in one run.

Ceiling: pairs of 512 + 16 + 128 tokens have 5.0 times the tokens of passages of 128 and the hundredth part of a query
with its examples. Both sides pay for attention to the prefix, pairs from all their tokens, passages from theirs only.
"""

from __future__ import annotations

import tempfile
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from harness import interleaved_medians
from networks import words, write_checkpoint, write_cross_encoder
from sentence_transformers import CrossEncoder
from tokenizers import Tokenizer

from gliclass_rerank import Example, Reranker
from gliclass_rerank.checkpoint import load_checkpoint

PREFIXES = (0, 256, 512)
QUERY_TOKENS = 16
NUM_EXAMPLES = 3
NUM_POSITIONS = 1024
PAIRS, SHARED = "CrossEncoder, batch 32", "shared_query"


@dataclass(frozen=True)
class Texts:
    """Random words, one token each.

    Attributes:
        vocabulary: The words.
        rng: Draws them.
    """

    vocabulary: list[str]
    rng: np.random.Generator

    def __call__(self, num_tokens: int) -> str:
        """A text of so many tokens."""
        return " ".join(self.rng.choice(self.vocabulary, num_tokens))


def measure(arguments: Namespace) -> list[dict[str, object]]:
    """One row a length of the prefix."""
    start = load_checkpoint()
    text = Texts(words(Tokenizer.from_str(start.layout.tokenizer.source)), np.random.default_rng(0))
    query, passages = text(QUERY_TOKENS), [text(arguments.passage_tokens) for _ in range(arguments.passages)]
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder, "marker"), Path(folder, "pairs")
        write_checkpoint(ours, start, num_positions=NUM_POSITIONS)
        write_cross_encoder(theirs, start, num_positions=NUM_POSITIONS)
        pairs = CrossEncoder(str(theirs), device="cpu", max_length=NUM_POSITIONS)
        reranker = Reranker(ours, plan="shared_query", device="cpu")
        runs: dict[str, Callable[[], object]] = {}
        for prefix in PREFIXES:
            examples = examples_of(reranker, query, prefix, text)
            texts = [(f"{text(prefix)} {query}".strip(), passage) for passage in passages]
            runs[f"{PAIRS} {prefix}"] = lambda texts=texts: pairs.predict(texts, show_progress_bar=False)
            runs[f"{SHARED} {prefix}"] = lambda examples=examples: reranker.rank(query, passages, examples=examples)
        seconds = interleaved_medians(runs, repeats=arguments.repeats)
    return [
        {
            "prefix_tokens": prefix,
            "passages_per_second": {name: arguments.passages / seconds[f"{name} {prefix}"] for name in (PAIRS, SHARED)},
            "ratio": seconds[f"{PAIRS} {prefix}"] / seconds[f"{SHARED} {prefix}"],
        }
        for prefix in PREFIXES
    ]


def examples_of(reranker: Reranker, query: str, num_tokens: int, text: Texts) -> list[Example]:
    """Examples that lengthen the query's block by exactly so many tokens, markers included."""
    if not num_tokens:
        return []
    bare = _query_tokens(reranker, query, [])
    parts = [1] * (2 * NUM_EXAMPLES)
    overhead = _query_tokens(reranker, query, _examples(parts, text)) - bare - sum(parts)
    parts = [len(part) for part in np.array_split(np.arange(num_tokens - overhead), 2 * NUM_EXAMPLES)]
    examples = _examples(parts, text)
    found = _query_tokens(reranker, query, examples) - bare
    if found != num_tokens:
        raise RuntimeError(f"the examples take {found} tokens in place of {num_tokens}")
    return examples


def _examples(lengths: list[int], text: Texts) -> list[Example]:
    return [Example(text(lengths[at]), (text(lengths[at + 1]),)) for at in range(0, len(lengths), 2)]


def _query_tokens(reranker: Reranker, query: str, examples: list[Example]) -> int:
    scorer = reranker._scorer
    plan = scorer._planner.plan(scorer.ask(query, [query], examples=examples), yielding="candidates")
    return len(plan.requests[0].query_ids)


def print_table(rows: list[dict[str, object]], arguments: Namespace) -> None:
    """Markdown."""
    print(
        f"q={QUERY_TOKENS}, N={arguments.passages}, L={arguments.passage_tokens}, random BERT of the bundled model's "
        f"size, torch float32 on the CPU, {arguments.threads} threads, median of {arguments.repeats}\n"
    )
    print(f"| example tokens | {PAIRS}, passages/s | {SHARED}, passages/s | |\n|---|---|---|---|")
    for row in rows:
        speeds = row["passages_per_second"]
        print(f"| {row['prefix_tokens']} | {speeds[PAIRS]:.1f} | {speeds[SHARED]:.1f} | {row['ratio']:.2f}x |")
