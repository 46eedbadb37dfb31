"""What a race of rerankers ranks: random words in given numbers, or a collection's queries with their candidates."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ranking_sets import measured_queries

from gliclass_rerank import Example, Reranker
from gliclass_rerank.learn.evaluation.collection import Collection
from gliclass_rerank.prompt.layout import ScoringRequest

QUERY_TOKENS = 16
NUM_EXAMPLES = 3
DEPTH = 100
# Log-normal, about what passages of the web are; nothing so long that one side would cut it.
MIXED_MEAN, MIXED_DEVIATION, MIXED_RANGE = 4.4, 0.6, (8, 240)


@dataclass(frozen=True)
class Question:
    """One ranking.

    Attributes:
        query: The query.
        passages: The passages.
        prefix: What a model of pairs reads before the query with every passage.
        examples: As many tokens of judged examples, for this library.
    """

    query: str
    passages: list[str]
    prefix: str = ""
    examples: tuple[Example, ...] = ()


@dataclass(frozen=True)
class Load:
    """Rankings of one kind.

    Attributes:
        name: Row of the table.
        questions: One a round; the first is for warming up.
        prefix_tokens: Tokens of each question's prefix.
        collection: Where the questions are from; None for random words.
    """

    name: str
    questions: list[Question]
    prefix_tokens: int = 0
    collection: Collection | None = None


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

    def mixed(self, num_texts: int) -> list[str]:
        """Texts of log-normal length."""
        lengths = np.clip(self.rng.lognormal(MIXED_MEAN, MIXED_DEVIATION, num_texts), *MIXED_RANGE)
        return [self(int(length)) for length in lengths]


def random_load(spec: str, text: Texts, reader: Reranker, *, rounds: int) -> Load:
    """A load of random words.

    Args:
        spec: `NxL` or `NxL+P`: N passages of L tokens each (or `mixed` lengths), P tokens of examples.
        text: Draws the words; lengths are drawn anew in each round.
        reader: Whose layout examples are fitted to.
        rounds: Questions beside the one to warm up.

    Returns:
        The load.

    Raises:
        ValueError: `spec` has another form.
    """
    found = re.fullmatch(r"(\d+)x(\d+|mixed)(?:\+(\d+))?", spec)
    if found is None:
        raise ValueError(f"a load must look like 100x128, 100xmixed or 20x128+512, got {spec!r}")
    number, length, prefix = int(found[1]), found[2], int(found[3] or 0)
    passages: Callable[[], list[str]] = (
        (lambda: text.mixed(number)) if length == "mixed" else lambda: [text(int(length)) for _ in range(number)]
    )
    questions = []
    for _ in range(1 + rounds):
        query = text(QUERY_TOKENS)
        examples = tuple(examples_of(reader, query, prefix, text))
        questions.append(Question(query, passages(), text(prefix), examples))
    return Load(spec, questions, prefix)


def collection_load(folder: Path, *, limit: int | None) -> Load:
    """A collection's queries, evenly spread, with their first 100 candidates."""
    collection = measured_queries(folder, limit=limit, depth=DEPTH)
    questions = [
        Question(query, [collection.passages[doc_id] for doc_id in collection.candidates[name]])
        for name, query in collection.queries.items()
    ]
    return Load(collection.name, [questions[0], *questions], collection=collection)


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
    request = ScoringRequest(query, [query], examples=tuple(examples))
    plan = reranker._pipeline._planner.plan(request, truncate_side="candidates")
    return len(plan.requests[0].query_ids)
