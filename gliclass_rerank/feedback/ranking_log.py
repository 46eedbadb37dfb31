"""A reranker's side of its log: entries of what it has shown."""

from __future__ import annotations

import logging
import uuid
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from gliclass_rerank.errors import DataError, InputError
from gliclass_rerank.feedback.entries import LoggedRanking, ShownPassage, now
from gliclass_rerank.feedback.log import FeedbackLog
from gliclass_rerank.types import Hit, Ranking, StageRanking

logger = logging.getLogger(__name__)


class RankingLog:
    """Writer of shown rankings; thread-safe. A log that cannot be written never stops a ranking.

    Args:
        log: Log.
        model: Name and version of the model.

    Attributes:
        log: Log.
    """

    def __init__(self, log: FeedbackLog, model: str) -> None:
        self.log = log
        self._model = model
        self._has_warned = False

    def note(
        self,
        queries: Sequence[str],
        shown: Sequence[Sequence[ShownPassage]],
        where: object = None,
    ) -> list[str | None]:
        """Add rankings, in one transaction.

        Args:
            queries: Queries.
            shown: Passages per query, in the order shown.
            where: Values that kept examples apart; a function is not kept.

        Returns:
            Id per ranking; None if the log cannot be written.
        """
        scope: Mapping[str, Any] = dict(where) if isinstance(where, Mapping) else {}  # Any: JSON
        at = now()
        rankings = [
            LoggedRanking(str(uuid.uuid4()), at, self._model, query, tuple(passages), scope)
            for query, passages in zip(queries, shown, strict=True)
        ]
        try:
            self.log.add(rankings)
        except (DataError, InputError) as error:  # full disk, or closed
            self._warn(error)
            return [None] * len(rankings)
        return [ranking.id for ranking in rankings]

    def noted(self, queries: Sequence[str], rankings: Sequence[Ranking], where: object) -> list[Ranking]:
        """Add rankings of a reranker, and return them with their ids.

        Args:
            queries: Queries.
            rankings: Ranking per query.
            where: As for `note`.

        Returns:
            Copies of the rankings.
        """
        ids = self.note(queries, [[_shown(hit) for hit in ranking] for ranking in rankings], where)
        return [replace(ranking, id=name) for ranking, name in zip(rankings, ids, strict=True)]

    def noted_of_stage(self, query: str, texts: Sequence[str], ranking: StageRanking, where: object) -> StageRanking:
        """Add what a stage returns, and return it with its id.

        Args:
            query: Query.
            texts: The caller's passages.
            ranking: Result of the stage.
            where: As for `note`.

        Returns:
            Copy of the ranking.
        """
        shown = [ShownPassage(hit.index, hit.logit, hit.score, texts[hit.index], None, hit.judged) for hit in ranking]
        (name,) = self.note([query], [shown], where)
        return replace(ranking, id=name)

    def judge(self, query: str, relevant: Sequence[str], irrelevant: Sequence[str]) -> None:
        """Add judgements of a query's passages."""
        try:
            self.log.judged(query, relevant, irrelevant)
        except (DataError, InputError) as error:
            self._warn(error)

    def _warn(self, error: Exception) -> None:
        if self._has_warned:
            return
        self._has_warned = True
        logger.warning("nothing is logged: %s", error)
        warnings.warn(f"nothing is logged: {error}", RuntimeWarning, stacklevel=4)


def _shown(hit: Hit) -> ShownPassage:
    name = None if hit.id is None else str(hit.id)
    return ShownPassage(hit.index, hit.logit, hit.score, hit.text, name, hit.judged)
