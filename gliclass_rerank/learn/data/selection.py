"""Selection of a record's passages: relevant ones, judged negatives, and mined negatives that pass the filter.

Candidates are drawn in rounds, because teacher scores are expensive: each round replaces what the last one lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from gliclass_rerank.learn.data.false_negatives import FalseNegatives, Shingles, comparable, shingles
from gliclass_rerank.learn.data.passage_pool import Pool
from gliclass_rerank.learn.data.questions import Query
from gliclass_rerank.learn.data.records import RankingRecord
from gliclass_rerank.learn.data.sampling import Sampling
from gliclass_rerank.text_models.interfaces import Teacher

# At most half of a query's negatives are judged ones, so that every query has mined ones.
_JUDGED_SHARE: Final = 0.5


class Judge(Protocol):
    """Scorer of pool passages, to detect false negatives."""

    @property
    def is_logit(self) -> bool:
        """True if scores are logits."""
        ...

    @property
    def teacher(self) -> str | None:
        """Name under which the record keeps the scores; None to drop them."""
        ...

    def score(self, asks: Sequence[tuple[str, Sequence[int]]]) -> list[list[float]]:
        """Score passages at pool positions for some queries, one score per position."""
        ...


@dataclass(frozen=True)
class TeacherJudge:
    """Teacher as judge, whose scores are kept.

    Attributes:
        teacher: Name of the teacher.
        model: Teacher.
        pool: Passages.
    """

    teacher: str
    model: Teacher
    pool: Pool

    @property
    def is_logit(self) -> bool:
        """True if the teacher gives logits."""
        return self.model.is_logit

    def score(self, asks: Sequence[tuple[str, Sequence[int]]]) -> list[list[float]]:
        """Score passages at pool positions for some queries."""
        texts = self.pool.texts
        return self.model.score([(query, [texts[index] for index in indices]) for query, indices in asks]).scores


@dataclass
class Dropped:
    """Counts of suspected false negatives.

    Attributes:
        duplicates: Near-duplicates of a relevant passage.
        scored_high: Candidates that scored nearly like a relevant passage.
    """

    duplicates: int = 0
    scored_high: int = 0


@dataclass
class _Draw:
    """Sampling state of one query."""

    query: Query
    known: list[int]  # relevant passages, then judged negatives
    positives: list[Shingles]
    pending: list[int]
    num_wanted: int
    limit: float = 0.0
    accepted: list[int] = field(default_factory=list)
    scores: dict[int, float] = field(default_factory=dict)


class Selector:
    """Selector of records' passages.

    Args:
        pool: Passages.
        sampling: Sampling of negatives.
        false_negatives: Detection of false negatives.
        judge: Scorer of candidates; None ignores scores.

    Attributes:
        dropped: Counts of refused candidates.
    """

    def __init__(
        self, pool: Pool, sampling: Sampling, false_negatives: FalseNegatives, judge: Judge | None = None
    ) -> None:
        self._pool = pool
        self._sampling = sampling
        self._false_negatives = false_negatives
        self._judge = judge
        self.dropped = Dropped()

    def select(self, queries: Sequence[Query], candidates: Sequence[Sequence[int]]) -> list[RankingRecord | None]:
        """Select the passages of several queries.

        Args:
            queries: Queries.
            candidates: Pool positions per query, best first.

        Returns:
            Record per query: relevant passages, judged negatives, mined ones in candidate order; None without any
                passage.
        """
        draws = [self._begin(query, found) for query, found in zip(queries, candidates, strict=True)]
        self._score(draws, [draw.known for draw in draws])
        for draw in draws:
            draw.limit = self._limit(draw)
        while open_draws := [draw for draw in draws if draw.pending and len(draw.accepted) < draw.num_wanted]:
            drawn = [self._next(draw) for draw in open_draws]
            self._score(open_draws, drawn)
            for draw, indices in zip(open_draws, drawn, strict=True):
                self._accept(draw, indices)
        return [
            self._record(draw, found) if draw.known or draw.accepted else None
            for draw, found in zip(draws, candidates, strict=True)
        ]

    def _begin(self, query: Query, candidates: Sequence[int]) -> _Draw:
        rng = self._sampling.generator(query.id)
        positives = query.positives
        judged = [index for index, grade in query.grades.items() if grade <= 0]
        room = int(self._sampling.num_negatives * _JUDGED_SHARE)
        if len(judged) > room:
            judged = [judged[i] for i in sorted(rng.permutation(len(judged))[:room])]
        num_wanted = self._sampling.num_negatives - len(judged)
        unjudged = [index for index in candidates if index not in query.grades]
        return _Draw(
            query=query,
            known=[*positives, *judged],
            positives=[shingles(self._pool.texts[index]) for index in positives],
            pending=self._sampling.draws(unjudged, num_wanted, rng),
            num_wanted=num_wanted,
        )

    def _next(self, draw: _Draw) -> list[int]:
        """Draw the missing number of candidates, skipping near-duplicates of relevant passages."""
        drawn: list[int] = []
        while draw.pending and len(drawn) < draw.num_wanted - len(draw.accepted):
            index = draw.pending.pop(0)
            if self._false_negatives.repeats(self._pool.texts[index], draw.positives):
                self.dropped.duplicates += 1
            else:
                drawn.append(index)
        return drawn

    def _accept(self, draw: _Draw, indices: Sequence[int]) -> None:
        for index in indices:
            if self._judge is None or comparable(draw.scores[index], is_logit=self._judge.is_logit) <= draw.limit:
                draw.accepted.append(index)
            else:
                self.dropped.scored_high += 1

    def _score(self, draws: Sequence[_Draw], wanted: Sequence[Sequence[int]]) -> None:
        if self._judge is None:
            return
        asks = [(draw.query.text, indices) for draw, indices in zip(draws, wanted, strict=True)]
        for draw, (_, indices), scores in zip(draws, asks, self._judge.score(asks), strict=True):
            draw.scores.update(zip(indices, scores, strict=True))

    def _limit(self, draw: _Draw) -> float:
        if self._judge is None:
            return self._false_negatives.score_limit((), is_logit=False)
        scores = [draw.scores[index] for index in draw.query.positives]
        return self._false_negatives.score_limit(scores, is_logit=self._judge.is_logit)

    def _record(self, draw: _Draw, candidates: Sequence[int]) -> RankingRecord:
        rank = {index: rank for rank, index in enumerate(candidates)}
        chosen = [*draw.known, *sorted(draw.accepted, key=lambda index: rank[index])]
        record = RankingRecord(
            query=draw.query.text,
            passages=tuple(self._pool.texts[index] for index in chosen),
            grades=tuple(draw.query.grades.get(index) for index in chosen),
            query_id=draw.query.id,
            passage_ids=tuple(self._pool.ids[index] for index in chosen),
        )
        if self._judge is None or self._judge.teacher is None:
            return record
        return record.with_scores(self._judge.teacher, [draw.scores[index] for index in chosen])
