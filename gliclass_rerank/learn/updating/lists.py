"""Training lists from gathered feedback."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from gliclass_rerank.learn.training.augment import shortened
from gliclass_rerank.learn.updating.gathering import QueryFeedback
from gliclass_rerank.learn.updating.propensity import Propensities
from gliclass_rerank.learn.updating.settings import LearnSettings

START: Final = "start"
"""Name under which the start's logits stand in a list."""

# Of clicks beside explicit judgements of the same query.
_CLICK_SHARE: Final = 0.5
# A list shorter than this gets passages of other queries.
_LEAST_PASSAGES: Final = 5


@dataclass(frozen=True)
class GainList:
    """Query with passages and gains.

    Attributes:
        query: Query.
        passages: Distinct passages, at least one.
        gains: Gain of each, at least 0.
        disliked: Passages judged irrelevant.
    """

    query: str
    passages: tuple[str, ...]
    gains: tuple[float, ...]
    disliked: frozenset[str]


def gain_lists(
    queries: Sequence[QueryFeedback], propensities: Propensities | None, settings: LearnSettings
) -> list[GainList]:
    """Build a list per query.

    Args:
        queries: Feedback by query.
        propensities: Correction of clicks; None for none.
        settings: Settings of learning.

    Returns:
        Lists, without those that say nothing.
    """
    pool = [passage for query in queries for passage in query.candidates()]
    found = []
    for number, query in enumerate(queries):
        gains = passage_gains(query, propensities)
        disliked = frozenset(passage for passage, value in query.judged.items() if value <= 0)
        if not disliked and not any(gains.values()):
            continue
        shown = [passage for passage in query.candidates() if gains.get(passage, 0) > 0 or passage in disliked]
        shown += [passage for passage in query.candidates() if passage not in shown]
        shown = shown[: settings.max_passages]
        shown = filled(shown, pool, [settings.seed, 5, number])[: settings.max_passages]
        found.append(GainList(query.query, tuple(shown), tuple(gains.get(passage, 0.0) for passage in shown), disliked))
    return found


def filled(passages: Sequence[str], pool: Sequence[str], seed: Sequence[int]) -> list[str]:
    """Passages with others drawn from a pool, if they are fewer than five: one alone says nothing of a ranking."""
    if len(passages) >= _LEAST_PASSAGES or not pool:
        return [*passages]
    drawn = np.random.default_rng(seed).integers(len(pool), size=4 * _LEAST_PASSAGES).tolist()
    return list(dict.fromkeys([*passages, *(pool[index] for index in drawn)]))[:_LEAST_PASSAGES]


def passage_gains(query: QueryFeedback, propensities: Propensities | None) -> dict[str, float]:
    """Gain by passage, at most 1 each: judgements where there are any, else clicks.

    Args:
        query: Feedback on a query.
        propensities: Correction of clicks; None for none.

    Returns:
        Gains of passages with a signal, in [0, 1].
    """
    clicks: dict[str, float] = {}
    for impression in query.impressions:
        for place in impression.clicked:
            weight = 1.0 if propensities is None else 1 / propensities.at(place)
            clicks[impression.passages[place]] = clicks.get(impression.passages[place], 0.0) + weight
    best_click, best_judged = max(clicks.values(), default=1.0), max(query.judged.values(), default=0.0)
    share = _CLICK_SHARE if best_judged > 0 else 1.0
    gains = {passage: share * value / best_click for passage, value in clicks.items()}
    return gains | {passage: value / (best_judged or 1.0) for passage, value in query.judged.items()}


def record_of(one: GainList, start_logits: Sequence[float], max_words: int) -> Mapping[str, Any]:  # Any: JSON
    """Training record of a list.

    A list with nothing but dislikes aims at the start's own probabilities without the disliked passages.

    Args:
        one: List.
        start_logits: The start's logit of each passage.
        max_words: Words of a passage that are kept.

    Returns:
        Line of a ranking source.
    """
    gains: Sequence[float] = one.gains
    if not any(gains):
        best = max(start_logits)
        gains = [
            0.0 if passage in one.disliked else math.exp(logit - best)
            for passage, logit in zip(one.passages, start_logits, strict=True)
        ]
    return {
        "query": one.query,
        "passages": [shortened(passage, max_words) for passage in one.passages],
        "grades": list(gains),
        "teacher_scores": {START: list(start_logits)},
    }
