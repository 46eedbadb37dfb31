"""Log of rankings that were shown, and of clicks, ratings, grades and judgements that followed.

One SQLite file that any number of processes write to (`database/database.py`). A ranking survives the process that
logged it, a signal a power failure too.
"""

from __future__ import annotations

import math
import secrets
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from gliclass_rerank.checks import (
    as_number,
    checked_count,
    checked_flag,
    checked_path,
    checked_share,
    checked_text,
    checked_texts,
    is_a,
    reading,
)
from gliclass_rerank.database.database import Database
from gliclass_rerank.errors import DataError, InputError, shown
from gliclass_rerank.feedback.entries import Kind, LoggedRanking, Signal, now
from gliclass_rerank.feedback.forgetting import forget, forget_before
from gliclass_rerank.feedback.log_schema import LOG_SCHEMA
from gliclass_rerank.feedback.reading import find_ranking, read_rankings, read_signals
from gliclass_rerank.feedback.writing import Digests, add_rankings, add_signals

_SECRET_BYTES: Final = 32
_SECONDS_A_DAY: Final = 86_400.0
# Old entries are looked for at most once in this time.
_CLEANING_S: Final = 3600.0


class FeedbackLog:
    """Log of shown rankings and users' signals; thread-safe, a context manager.

    Any number of processes may write to one file. An unreferenced log closes itself.

    Args:
        path: Log file, created if missing, private to its owner.
        keep_texts: Keep queries and passages. Without them passages are known by the caller's ids and by digests, which
            compare within this file only.
        keep_days: Days after which entries are forgotten; None to keep them.

    Attributes:
        path: Log file.

    Raises:
        InputError: The path's folder does not exist, or an argument has the wrong type.
        DataError: The file is no log, damaged, of another format, or locked by another program.
    """

    def __init__(self, path: str | Path, *, keep_texts: bool = True, keep_days: int | None = None) -> None:
        self.path = checked_path("path", path).absolute()
        self._keeps_texts = checked_flag("keep_texts", keep_texts)
        self._keep_days = None if keep_days is None else checked_count("keep_days", keep_days)
        self._next_cleaning = 0.0
        self._database = Database(self.path, LOG_SCHEMA)
        try:
            self._digests = Digests(self._secret())
            self._clean()
        except BaseException:
            self._database.close()
            raise
        self._closing = weakref.finalize(self, self._database.close)

    def _secret(self) -> bytes:
        if not self._database.select("SELECT 1 FROM sqlite_master"):
            with self._database.transaction() as connection:
                if not connection.execute("SELECT 1 FROM sqlite_master").fetchone():
                    LOG_SCHEMA.create(connection)
                    connection.execute("INSERT INTO log VALUES (?)", (secrets.token_bytes(_SECRET_BYTES),))
        found = self._database.select("SELECT secret FROM log")
        if len(found) != 1 or not isinstance(found[0][0], bytes):
            raise DataError(f"{self._database.name} is broken: its key is missing")
        return found[0][0]

    # Writing

    def add(self, rankings: Sequence[LoggedRanking]) -> None:
        """Add rankings, in one transaction; those whose id is there already are left out.

        Args:
            rankings: Rankings; texts are dropped unless the log keeps them.

        Raises:
            DataError: The log cannot be written.
        """
        with self._database.transaction(is_synced=False) as connection:
            add_rankings(connection, rankings, self._digests, keep_texts=self._keeps_texts)
        self._clean()

    def add_signals(self, signals: Sequence[Signal], *, skip_known: bool = False) -> None:
        """Add signals, in one durable transaction.

        Args:
            signals: Signals; texts are dropped unless the log keeps them.
            skip_known: Leave out signals that are there already.

        Raises:
            DataError: The log cannot be written.
        """
        with self._database.transaction() as connection:
            add_signals(connection, signals, self._digests, keep_texts=self._keeps_texts, skip_known=skip_known)
        self._clean()

    def clicks(self, ranking_id: str, indices: Sequence[int]) -> None:
        """Add clicks on passages of a ranking.

        Args:
            ranking_id: `Ranking.id`.
            indices: Positions in the caller's list of passages, `hit.index`.

        Raises:
            InputError: The log has no such ranking, or the ranking no such passage.
            DataError: The log cannot be written.
        """
        if is_a(indices, (str, bytes, Mapping)) or not is_a(indices, Sequence):
            raise InputError(f"`indices` must be a list of positions, got {shown(indices)}")
        with reading("`indices`"):
            grades = dict.fromkeys(indices, 1.0)
        self._add_for("click", ranking_id, grades)

    def graded(self, ranking_id: str, grades: Mapping[int, float]) -> None:
        """Add grades of passages of a ranking.

        Args:
            ranking_id: `Ranking.id`.
            grades: Grades by position in the caller's list of passages: 0 for irrelevant, above for relevant.

        Raises:
            InputError: The log has no such ranking, the ranking no such passage, or a grade is no number of at least 0.
            DataError: The log cannot be written.
        """
        if not is_a(grades, Mapping):
            raise InputError(f"`grades` must be a mapping from positions to grades, got {shown(grades)}")
        with reading("`grades`"):
            given = dict(grades)
        for grade in given.values():
            number = as_number(float(grade) if is_a(grade, bool) else grade)
            if number is None or not 0 <= number < math.inf:
                raise InputError(f"a grade must be a number of at least 0, got {shown(grade)}")
        self._add_for("grade", ranking_id, given)

    def rating(self, ranking_id: str, value: float) -> None:
        """Add a rating of a whole answer.

        Args:
            ranking_id: `Ranking.id`.
            value: From 0, bad, to 1, good; True and False too.

        Raises:
            InputError: The log has no such ranking, or the value is out of range.
            DataError: The log cannot be written.
        """
        number = checked_share("value", float(value) if is_a(value, bool) else value)
        found = self.ranking(ranking_id)
        self.add_signals([Signal("rating", now(), number, found.id)])

    def judged(self, query: str, relevant: Sequence[str] = (), irrelevant: Sequence[str] = ()) -> None:
        """Add judgements of a query's passages, of any list; `Reranker.feedback` does so.

        Args:
            query: Query.
            relevant: Relevant passages.
            irrelevant: Irrelevant passages.

        Raises:
            InputError: An argument has the wrong type.
            DataError: The log cannot be written.
        """
        query, at = checked_text("`query`", query), now()
        graded = [*((text, 1.0) for text in checked_texts("relevant", relevant))]
        graded += ((text, 0.0) for text in checked_texts("irrelevant", irrelevant))
        self.add_signals([Signal("judgement", at, value, query=query, text=text) for text, value in graded])

    def _add_for(self, kind: Kind, ranking_id: str, values: Mapping[int, float]) -> None:
        found = self.ranking(ranking_id)
        known = {one.index for one in found.shown}
        for index in values:
            if isinstance(index, bool) or index not in known:
                raise InputError(f"the ranking {shown(found.id)} has no passage of the index {shown(index)}")
        at = now()
        self.add_signals([Signal(kind, at, float(value), found.id, int(index)) for index, value in values.items()])

    # Reading

    def ranking(self, ranking_id: str) -> LoggedRanking:
        """Look up a ranking by its id; an `InputError` if the log has none."""
        found = find_ranking(self._database, checked_text("`ranking_id`", ranking_id))
        if found is None:
            raise InputError(f"the log has no ranking {shown(ranking_id)}")
        return found

    def rankings(self) -> Iterator[LoggedRanking]:
        """Iterate over all rankings in order of writing; those added meanwhile may be among them."""
        return read_rankings(self._database)

    def signals(self) -> Iterator[Signal]:
        """Iterate over all signals in order of writing; those added meanwhile may be among them."""
        return read_signals(self._database)

    # Forgetting

    def forget(self, *, query: str | None = None, id: str | None = None) -> int:
        """Remove everything about a query, a ranking or a passage, and overwrite it in the file.

        Args:
            query: Query, regardless of case and white space: its rankings, with their signals, and its judgements.
            id: Id of a ranking, or the caller's id of a passage: its text and its place in every list.

        Returns:
            Number of rankings, places in lists and signals that were removed.

        Raises:
            InputError: Neither is given.
            DataError: The log cannot be written.
        """
        if query is None and id is None:
            raise InputError("`query` or `id` must be given, got None for both")
        digest = None if query is None else self._digests.of_query(checked_text("`query`", query))
        name = None if id is None else checked_text("`id`", id)
        with self._database.transaction() as connection:
            num_removed = forget(connection, query=digest, name=name)
        self._database.put_away()
        return num_removed

    def _clean(self) -> None:
        """Forget what is too old, now and then."""
        at = now()
        if self._keep_days is None or at < self._next_cleaning:
            return
        self._next_cleaning = at + _CLEANING_S
        limit = at - self._keep_days * _SECONDS_A_DAY
        if self._database.select(
            "SELECT 1 FROM rankings WHERE time < ?1 UNION SELECT 1 FROM signals WHERE time < ?1", (limit,)
        ):
            with self._database.transaction() as connection:
                forget_before(connection, limit)
            self._database.put_away()

    # The file

    def close(self) -> None:
        """Release the file; idempotent."""
        self._closing()

    @property
    def is_closed(self) -> bool:
        """True once the file was released."""
        return not self._closing.alive

    def __copy__(self) -> FeedbackLog:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> FeedbackLog:  # Any: Python's
        return self

    def __enter__(self) -> FeedbackLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
