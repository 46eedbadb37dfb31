"""Gathering of a log's signals by query.

A query counts once, however often it was asked and by whom: nobody can flood training or gate with one query.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from gliclass_rerank.examples.text_identity import text_identity
from gliclass_rerank.feedback import FeedbackLog, LoggedRanking, Signal


@dataclass(frozen=True)
class Impression:
    """List that was shown, with what a user did.

    Attributes:
        passages: Passages in the order shown.
        logits: Logit of each; NaN where it was not reranked.
        clicked: Positions clicked, from 0.
    """

    passages: tuple[str, ...]
    logits: tuple[float, ...]
    clicked: frozenset[int]


@dataclass(frozen=True)
class QueryFeedback:
    """Everything that the log says about a query.

    Attributes:
        query: Query, as first written.
        judged: Mean judgement or grade by passage; 0 for irrelevant.
        impressions: Lists shown.
        num_signals: Clicks, grades and judgements.
    """

    query: str
    judged: Mapping[str, float]
    impressions: tuple[Impression, ...]
    num_signals: int

    @property
    def has_clicks(self) -> bool:
        """True if a passage was clicked."""
        return any(impression.clicked for impression in self.impressions)

    def candidates(self) -> list[str]:
        """Passages judged or shown: judged ones first, then by their best place."""
        places: dict[str, int] = dict.fromkeys(self.judged, -1)
        for impression in self.impressions:
            for place, passage in enumerate(impression.passages):
                places[passage] = min(place, places.get(passage, place))
        return sorted(places, key=lambda passage: places[passage])


@dataclass(frozen=True)
class Gathered:
    """Usable feedback of a log.

    Attributes:
        queries: Feedback by query, in order of first appearance.
        num_without_texts: Signals on rankings whose texts were left out.
    """

    queries: tuple[QueryFeedback, ...]
    num_without_texts: int

    @property
    def num_signals(self) -> int:
        """Signals of all queries."""
        return sum(query.num_signals for query in self.queries)


@dataclass
class _Query:
    query: str
    values: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    impressions: list[Impression] = field(default_factory=list)
    num_signals: int = 0


def gather(log: FeedbackLog) -> Gathered:
    """Read a log.

    Args:
        log: Log.

    Returns:
        Feedback by query. Ratings of whole answers are left out: they do not say which passage was right.
    """
    judgements, signals = _signals(log.signals())
    found: dict[str, _Query] = {}
    for judgement in judgements:
        if judgement.query is not None and judgement.text is not None:
            one = found.setdefault(text_identity(judgement.query), _Query(judgement.query))
            one.values[judgement.text].append(judgement.value)
            one.num_signals += 1
    without_texts = sum(judgement.query is None or judgement.text is None for judgement in judgements)
    for ranking in log.rankings():
        own = signals.get(ranking.id, {})
        identity = None if ranking.query is None else text_identity(ranking.query)
        if ranking.query is None or any(passage.text is None for passage in ranking.shown):
            without_texts += len(own)
        elif own or identity in found:
            assert identity is not None, "it has a query"
            _add(found.setdefault(identity, _Query(ranking.query)), ranking, own)
    queries = tuple(_feedback(one) for one in found.values() if one.num_signals)
    return Gathered(queries, without_texts)


def is_held_out(query: str, *, share: float, seed: int) -> bool:
    """Choose by a query's digest whether the gate keeps it: the choice stays as the log grows."""
    digest = hashlib.sha256(f"{seed} {text_identity(query)}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def _signals(signals: Iterable[Signal]) -> tuple[list[Signal], dict[str, dict[tuple[str, int], Signal]]]:
    """Judgements, and by ranking the last signal of each kind and place."""
    judgements: list[Signal] = []
    of_rankings: dict[str, dict[tuple[str, int], Signal]] = defaultdict(dict)
    for signal in signals:
        if signal.kind == "judgement":
            judgements.append(signal)
        elif signal.kind in ("click", "grade") and signal.ranking_id is not None and signal.index is not None:
            of_rankings[signal.ranking_id][signal.kind, signal.index] = signal
    return judgements, of_rankings


def _add(one: _Query, ranking: LoggedRanking, signals: Mapping[tuple[str, int], Signal]) -> None:
    places = {passage.index: place for place, passage in enumerate(ranking.shown)}
    clicked = set()
    for (kind, index), signal in signals.items():
        place = places.get(index)
        text = None if place is None else ranking.shown[place].text
        if place is None or text is None:  # forgotten since
            continue
        one.num_signals += 1
        if kind == "click":
            clicked.add(place)
        else:
            one.values[text].append(signal.value)
    passages = tuple(passage.text or "" for passage in ranking.shown)
    logits = tuple(math.nan if passage.logit is None else passage.logit for passage in ranking.shown)
    one.impressions.append(Impression(passages, logits, frozenset(clicked)))


def _feedback(one: _Query) -> QueryFeedback:
    judged = {text: math.fsum(values) / len(values) for text, values in one.values.items()}
    return QueryFeedback(one.query, judged, tuple(one.impressions), one.num_signals)
