"""nDCG@10 with judged queries as examples, on a collection's test split (else dev).

They are those of its `train` split, or the measured split's others: what feedback on the very passages that are ranked
has gathered. A query is never shown itself, but a question that asks for the same passage in other words is.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from ranking_sets import measured_queries, measured_split, ranked
from shown_examples import Choice, Measured, answers

from gliclass_rerank import Example, Reranker
from gliclass_rerank.checkpoint.location import DEFAULT_RANKER
from gliclass_rerank.learn.data.passage_pool import load_pool
from gliclass_rerank.learn.data.questions import Judged, Sources, load_queries
from gliclass_rerank.learn.evaluation.ranking import evaluate_queries, mean_quality
from gliclass_rerank.learn.training.examples import example_of
from gliclass_rerank.learn.training.records import RankingRecord

SETS = ("wikiqa", "medquad", "squad")
FIGURE = "nDCG@10"
JUDGED = ("train", "others")
DEFAULT = DEFAULT_RANKER  # where no model is named


def measure(
    folder: Path, choose: Callable[..., Choice], arguments: Namespace
) -> tuple[dict[str, object], list[dict[str, object]]]:
    """Measure one collection.

    Args:
        folder: The collection.
        choose: Told texts and a pool, chooses examples.
        arguments: The command line's.

    Returns:
        What there is to know about it, and its rows.
    """
    split = "train" if arguments.judged == "train" else measured_split(folder)
    pool = example_pool(folder, split, arguments.pool, arguments.seed)
    collection = measured_queries(folder, limit=arguments.limit, depth=arguments.depth)
    names = list(collection.queries)
    passages = [[collection.passages[doc_id] for doc_id in collection.candidates[name]] for name in names]
    choice = choose(list(collection.queries.values()), pool)
    relevant = [
        {
            passage.strip()
            for doc_id, passage in zip(collection.candidates[name], texts, strict=True)
            if collection.qrels[name].get(doc_id, 0) > 0
        }
        for name, texts in zip(names, passages, strict=True)
    ]

    def is_hint(number: int, example: Example) -> bool:
        return not relevant[number].isdisjoint(example.true_labels)

    reranker = Reranker(
        arguments.model,
        max_example_tokens=arguments.max_example_tokens,
        device=arguments.device,
        backend=arguments.backend,
    )
    num_cut = []

    def logits(number: int, examples: tuple[Example, ...]) -> list[float]:
        ranking = reranker.rank(collection.queries[names[number]], passages[number], examples=examples)
        if examples:
            num_cut.append(bool(ranking.truncated_examples))
        return [hit.logit for hit in sorted(ranking, key=lambda hit: hit.index)]

    def ndcg(rows: Sequence[list[float]]) -> Measured:
        run = ranked(collection, dict(zip(names, rows, strict=True)))
        qualities = [*evaluate_queries(collection.qrels, run).values()]
        return Measured(mean_quality(qualities).ndcg_at_10, [quality.ndcg_at_10 for quality in qualities])

    found = answers(choice, logits, most=arguments.examples, title=folder.name).rows(ndcg)
    facts = {
        "set": folder.name,
        "measured": len(names),
        "candidates": collection.num_candidates / len(names),
        "judged": arguments.judged,
        "pool": len(pool),
        **choice.statistics(is_hint),
        "prompts_with_cut_examples": float(np.mean(num_cut)) if num_cut else 0.0,
    }
    return facts, [{"set": folder.name, "regime": "standard", **row} for row in found]


def example_pool(folder: Path, split: str, limit: int | None, seed: int) -> list[Example]:
    """A split's queries that have a relevant passage, each with one of these and, if there is any, an irrelevant one.

    That is what training shows (`example_of`). Queries that differ in case and white space only are one.
    """
    documents = load_pool([folder], max_words=None)
    queries = load_queries(Sources(collections=(Judged(folder, split),)), documents, limit=limit, seed=seed)
    examples = []
    for number, query in enumerate(queries):
        passages = tuple(documents.texts[position] for position in query.grades)
        record = RankingRecord(query.id, query.text, passages, tuple(map(float, query.grades.values())))
        examples.append(example_of(record, np.random.default_rng([seed, number])))
    return examples
