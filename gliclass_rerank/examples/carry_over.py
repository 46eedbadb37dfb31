"""Judgements carried over from similar queries to the very passages they were given on.

A passage judged relevant to a similar query gains log-odds, one judged irrelevant loses them: eight at a cosine of 1,
less by the square of the distance, none where a query is no more alike than others are. In a store on one subject all
queries are somewhat alike, so the tenth neighbour counts as such (docs/decisions/0050-carry-over.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from gliclass_rerank.examples.source import Neighbour
from gliclass_rerank.examples.text_identity import text_identity
from gliclass_rerank.types import Example

NUM_NEIGHBOURS: Final = 10
_LOG_ODDS: Final = 8.0


class CarriedOver(NamedTuple):
    """Effect of similar queries' judgements.

    Attributes:
        examples: Examples that judge one of the passages, most similar first.
        log_odds: What each passage gains or loses by them; empty without any.
    """

    examples: tuple[Example, ...]
    log_odds: tuple[float, ...]


def carried_over(neighbours: Sequence[Neighbour], passages: Sequence[str], min_similarity: float) -> CarriedOver:
    """Carry judgements over to passages.

    Args:
        neighbours: Judged queries, most similar first; only the first `NUM_NEIGHBOURS` count.
        passages: Passages, as the store knows them.
        min_similarity: Cosine up to which nothing is carried over.

    Returns:
        The effect.
    """
    near = neighbours[:NUM_NEIGHBOURS]
    names = [text_identity(passage) for passage in passages]
    liked = [_names(each.example.true_labels) for each in near]
    disliked = [_names(each.example.false_labels) for each in near]
    effects: dict[str, float] = {}
    for name in set(names):
        relevant, irrelevant = (
            [each.similarity for each, judged in zip(near, by, strict=True) if name in judged]
            for by in (liked, disliked)
        )
        if relevant or irrelevant:
            others = [
                each.similarity for each, yes, no in zip(near, liked, disliked, strict=True) if name not in yes | no
            ]
            is_crowded = len(near) == NUM_NEIGHBOURS and bool(others)
            start = max(min_similarity, others[-1]) if is_crowded else min_similarity
            effects[name] = _strength(relevant, start) - _strength(irrelevant, start)
    examples = tuple(
        each.example
        for each, yes, no in zip(near, liked, disliked, strict=True)
        if not effects.keys().isdisjoint(yes | no)
    )
    return CarriedOver(examples, tuple(effects.get(name, 0.0) for name in names) if effects else ())


def _names(labels: Sequence[str]) -> frozenset[str]:
    return frozenset(map(text_identity, labels))


def _strength(similarities: Sequence[float], start: float) -> float:
    """Log-odds by the nearest of some queries, most similar first."""
    if not similarities or similarities[0] <= start:
        return 0.0
    return _LOG_ODDS * ((similarities[0] - start) / (1 - start)) ** 2
