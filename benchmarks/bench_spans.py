"""Question: does a passage's best sentence hold the answer, and how much of a context can be cut without losing it?

    python benchmarks/bench_spans.py --data RERANK_FOLDER [--limit N] [--depth N] [--model NAME ...]

The dev split of squad: each question with its paragraph, and with `--depth` above 1 the first paragraphs of its BM25
list beside it, which is what a RAG pipeline would read. A sentence is relevant if one of the question's answers occurs
in it.

- hit rate: the best sentence of the paragraph holds an answer; `share` is the part of the paragraph's words in it.
- AUC: of all sentences of all questions, which is what one threshold for all needs.
- saved: words cut by the threshold that keeps an answer in the context of 95 % of the questions; the threshold of one
  half of the questions is measured on the other, and the other way round. `kept` is what that keeps.

Baselines: BM25 of the sentences, their share of the question's words, and the first sentence. `occlusion` scores a
sentence by what the passage's logit loses without it, which costs a passage a sentence. Counts, no times: `tokens` are
those that the first model reads, against those of ranking the passages.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from bench_long_passages import required
from harness import print_json
from ranking_sets import spread_queries

from gliclass_rerank import Reranker
from gliclass_rerank._imports import require
from gliclass_rerank.learn.evaluation.collection import load_collection
from gliclass_rerank.learn.evaluation.files import read_jsonl
from gliclass_rerank.spans.sentences import sentences

FOLDER: Final = "train/squad"
KEPT: Final = 0.95
MODELS: Final = ("minilm-l6-v1", "minilm-cascade-v1")


class Question(NamedTuple):
    """Question with its context.

    Attributes:
        text: Question.
        passages: Its paragraph, then others.
        sentences: Sentences of each passage.
        holds: For each of them, whether an answer occurs in it.
    """

    text: str
    passages: list[str]
    sentences: list[list[str]]
    holds: list[list[bool]]

    @property
    def flat(self) -> list[tuple[str, bool]]:
        """All sentences of the context, with whether they hold an answer."""
        pairs = zip(self.sentences, self.holds, strict=True)
        return [each for texts, holds in pairs for each in zip(texts, holds, strict=True)]


Scores = list[list[float]]
Scorer = Callable[[Question], Scores]
"""Scores of each passage's sentences."""


def questions(folder: Path, limit: int, depth: int) -> list[Question]:
    """Questions of which a sentence of their paragraph holds an answer."""
    answers = {row.string("query_id"): row.strings("answers") for row in read_jsonl(required(folder / "answers.jsonl"))}
    collection = spread_queries(load_collection(folder, "dev"), limit)
    found = []
    for name, text in collection.queries.items():
        (own,) = (doc for doc, grade in collection.qrels[name].items() if grade > 0)
        others = [doc for doc in collection.candidates[name] if doc != own][: depth - 1]
        passages = [collection.passages[doc] for doc in (own, *others)]
        split = [[passage[slice(*extent)] for extent in sentences(passage)] for passage in passages]
        holds = [[any(answer in each for answer in answers[name]) for each in some] for some in split]
        if any(holds[0]):
            found.append(Question(text, passages, split, holds))
    return found


def bm25(pool: Sequence[Question]) -> Scorer:
    """BM25 over stemmed words without stop words; the index is of all sentences of all contexts."""
    library, stemmer = require("bm25s", extra="eval"), require("Stemmer", extra="eval").Stemmer("en")
    texts = list(dict.fromkeys(text for question in pool for text, _ in question.flat))
    place = {text: number for number, text in enumerate(texts)}
    index = library.BM25()
    index.index(library.tokenize(texts, stopwords="en", stemmer=stemmer, show_progress=False), show_progress=False)

    def score(question: Question) -> Scores:
        (words,) = library.tokenize(
            [question.text], stopwords="en", stemmer=stemmer, return_ids=False, show_progress=False
        )
        found = index.get_scores(words) if words else np.zeros(len(texts))
        return [[float(found[place[text]]) for text in some] for some in question.sentences]

    return score


def overlap(question: Question) -> Scores:
    """Share of the question's words that a sentence has."""
    wanted = _words(question.text)
    return [[len(wanted & _words(text)) / max(1, len(wanted)) for text in some] for some in question.sentences]


def first(question: Question) -> Scores:
    """Earlier sentences before later ones."""
    return [[1 / (1 + number) for number in range(len(some))] for some in question.sentences]


def ours(reranker: Reranker) -> Scorer:
    """Spans of the model."""

    def score(question: Question) -> Scores:
        spans = reranker.spans(question.text, question.passages)
        return [[span.score for span in sorted(some, key=lambda span: span.start)] for some in spans]

    return score


def occlusion(reranker: Reranker) -> Scorer:
    """Logit that a passage loses without a sentence."""

    def score(question: Question) -> Scores:
        without = [
            [" ".join(some[:number] + some[number + 1 :]) for number in range(len(some))] for some in question.sentences
        ]
        texts = [text for texts in (question.passages, *without) for text in texts]
        logits = {hit.index: hit.logit for hit in reranker.rank(question.text, texts, log=False)}
        flat = iter(logits[index] for index in range(len(question.passages), len(texts)))
        return [[logits[number] - next(flat) for _ in some] for number, some in enumerate(without)]

    return score


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


def auc(relevant: Sequence[float], others: Sequence[float]) -> float:
    """Probability that a relevant sentence scores above another; half for ties."""
    order = np.sort(np.asarray(others))
    below = np.searchsorted(order, relevant, "left") + np.searchsorted(order, relevant, "right")
    return float(below.mean() / 2 / len(order))


def cut_of(part: Sequence[tuple[Question, Scores]], threshold: float) -> tuple[float, float]:
    """Share of questions that keep an answer, and share of words cut, where lower scores are cut."""
    kept = words = cut = 0
    for question, scores in part:
        flat = [score for some in scores for score in some]
        sizes = [len(text.split()) for text, _ in question.flat]
        kept += any(holds and score >= threshold for score, (_, holds) in zip(flat, question.flat, strict=True))
        words += sum(sizes)
        cut += sum(size for size, score in zip(sizes, flat, strict=True) if score < threshold)
    return kept / len(part), cut / words


def threshold_of(part: Sequence[tuple[Question, Scores]]) -> float:
    """Highest threshold that keeps an answer of 95 % of the questions."""
    best = sorted(
        max(
            score
            for score, (_, holds) in zip((s for some in scores for s in some), question.flat, strict=True)
            if holds
        )
        for question, scores in part
    )
    return best[int((1 - KEPT) * len(best))]


def row_of(name: str, asked: Sequence[Question], scorer: Scorer, depth: int) -> Mapping[str, Any]:
    """Figures of a way to score sentences."""
    scored = [(question, scorer(question)) for question in asked]
    hits, shares = [], []
    for question, scores in scored:
        best = int(np.argmax(scores[0]))
        hits.append(question.holds[0][best])
        shares.append(len(question.sentences[0][best].split()) / len(question.passages[0].split()))
    pairs = [
        (score, holds)
        for question, scores in scored
        for score, (_, holds) in zip((s for some in scores for s in some), question.flat, strict=True)
    ]
    halves = scored[::2], scored[1::2]
    thresholds = [threshold_of(half) for half in halves]
    kept, saved = np.mean([cut_of(halves[1 - number], thresholds[number]) for number in (0, 1)], axis=0)
    return {
        "way": name,
        "depth": depth,
        "questions": len(asked),
        "sentences": len(pairs) / len(asked),
        "hit": float(np.mean(hits)),
        "share": float(np.mean(shares)),
        "auc": auc([score for score, holds in pairs if holds], [score for score, holds in pairs if not holds]),
        "saved": float(saved),
        "kept": float(kept),
        "thresholds": thresholds,
    }


def main() -> None:
    """Print a row a way and depth, then one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=300)
    parser.add_argument("--depth", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--model", nargs="*", default=MODELS)
    parser.add_argument("--backend")
    parser.add_argument("--occlusion", action="store_true", help="measure occlusion too, with the first model")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    models = {
        name: Reranker(name, device="cpu", backend=arguments.backend, threads=arguments.threads)
        for name in arguments.model
    }
    rows = []
    for depth in arguments.depth:
        asked = questions(arguments.data / FOLDER, arguments.limit, depth)
        ways: dict[str, Scorer] = {"first sentence": first, "overlap": overlap, "BM25": bm25(asked)}
        if arguments.occlusion and models:
            ways["occlusion"] = occlusion(next(iter(models.values())))
        ways |= {name: ours(model) for name, model in models.items()}
        for name, scorer in ways.items():
            rows.append(row_of(name, asked, scorer, depth))
            print(" | ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    facts = {"backends": {name: f"{model.backend} {model.dtype}" for name, model in models.items()}}
    print_json({"benchmark": "spans", "limit": arguments.limit, **facts, "rows": rows})


if __name__ == "__main__":
    main()
