"""Entries of a feedback log."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gliclass_rerank.types import Judged

# A click on a passage; a rating of a whole answer, in [0, 1]; a grade of a passage, 0 for irrelevant; a judgement of a
# query's passage by text, 1 or 0.
Kind = Literal["click", "rating", "grade", "judgement"]


def now() -> float:
    """Seconds since 1970, UTC, in whole microseconds, as other formats have them."""
    return round(time.time(), 6)


@dataclass(frozen=True)
class ShownPassage:
    """Passage in a ranking that was shown.

    Attributes:
        index: Position in the caller's list of passages.
        logit: Raw output of the model; None if it was not reranked.
        score: Score that was returned; None if it was not reranked.
        text: Passage; None if texts are left out.
        id: The caller's id; None without one.
        judged: Judgement by which it was placed; None for none.
    """

    index: int
    logit: float | None
    score: float | None
    text: str | None = None
    id: str | None = None
    judged: Judged | None = None


@dataclass(frozen=True)
class LoggedRanking:
    """Ranking that was shown.

    Attributes:
        id: Id of the ranking.
        time: Seconds since 1970, UTC.
        model: Name and version of the model.
        query: Query; None if texts are left out.
        shown: Passages in the order shown.
        where: Values that kept examples apart, such as a tenant's.
    """

    id: str
    time: float
    model: str
    query: str | None
    shown: tuple[ShownPassage, ...]
    where: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON


@dataclass(frozen=True)
class Signal:
    """Act of a user.

    Attributes:
        kind: `"click"`, `"rating"`, `"grade"` or `"judgement"`.
        time: Seconds since 1970, UTC.
        value: 1 for a click; the rating, in [0, 1]; the grade, at least 0; 1 or 0 for a judgement.
        ranking_id: Ranking that it concerns; None for a judgement.
        index: Position in the caller's list of passages; None for a rating or a judgement.
        query: Query of a judgement; None for other kinds, or if texts are left out.
        text: Passage of a judgement; None for other kinds, or if texts are left out.
    """

    kind: Kind
    time: float
    value: float
    ranking_id: str | None = None
    index: int | None = None
    query: str | None = None
    text: str | None = None
