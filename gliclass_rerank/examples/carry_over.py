"""Judgements carried over from similar queries to the very passages they were given on.

A passage judged relevant to a similar query gains log-odds, one judged irrelevant loses them: eight at a cosine of 1,
and less, quadratically, down to the cosine of queries in general. In a store on one subject all queries are somewhat
alike, so that is the tenth other neighbour's, and at least 0.3 (docs/decisions/0050-carry-over.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from gliclass_rerank.examples.source import Neighbour
from gliclass_rerank.examples.text_identity import text_identity
from gliclass_rerank.types import Example

NUM_NEIGHBOURS: Final = 11
MIN_NEIGHBOUR_SIMILARITY: Final = 0.3
_LOG_ODDS: Final = 8.0


class CarriedOver(NamedTuple):
    """Effect of similar queries' judgements.

    Attributes:
        examples: Examples that judge one of the passages, most similar first.
        log_odds: What each passage gains or loses by them; empty without any.
    """

    examples: tuple[Example, ...]
    log_odds: tuple[float, ...]


class _Judgements(NamedTuple):
    """Neighbour with its passages by normalised text."""

    example: Example
    similarity: float
    relevant: frozenset[str]
    irrelevant: frozenset[str]

    @classmethod
    def of(cls, neighbour: Neighbour) -> _Judgements:
        labels = neighbour.example.true_labels, neighbour.example.false_labels
        return cls(*neighbour, *(frozenset(map(text_identity, each)) for each in labels))

    def judges(self, name: str) -> bool:
        return name in self.relevant or name in self.irrelevant


def carried_over(neighbours: Sequence[Neighbour], passages: Sequence[str], min_similarity: float) -> CarriedOver:
    """Carry judgements over to passages.

    Args:
        neighbours: Judged queries, most similar first; only the first `NUM_NEIGHBOURS` count.
        passages: Passages, as the store knows them.
        min_similarity: Least cosine of a query whose judgements are carried over.

    Returns:
        The effect.
    """
    near = [_Judgements.of(each) for each in neighbours[:NUM_NEIGHBOURS]]
    alike = [each for each in near if each.similarity >= min_similarity]
    names = [text_identity(passage) for passage in passages]
    effects: dict[str, float] = {}
    for name in set(names):
        if any(each.judges(name) for each in alike):
            start = _general_similarity([each.similarity for each in near if not each.judges(name)], len(near))
            relevant = (each.similarity for each in alike if name in each.relevant)
            irrelevant = (each.similarity for each in alike if name in each.irrelevant)
            effects[name] = _strength(relevant, start) - _strength(irrelevant, start)
    examples = tuple(each.example for each in alike if any(map(each.judges, effects)))
    return CarriedOver(examples, tuple(effects.get(name, 0.0) for name in names) if effects else ())


def _general_similarity(others: Sequence[float], num_neighbours: int) -> float:
    """Cosine of queries in general, by neighbours that do not judge a passage, most similar first."""
    is_crowded = num_neighbours == NUM_NEIGHBOURS and bool(others)
    return max(MIN_NEIGHBOUR_SIMILARITY, others[-1]) if is_crowded else MIN_NEIGHBOUR_SIMILARITY


def _strength(similarities: Iterable[float], start: float) -> float:
    """Log-odds by the nearest of some queries."""
    nearest = max(similarities, default=start)
    return 0.0 if nearest <= start else _LOG_ODDS * ((nearest - start) / (1 - start)) ** 2
