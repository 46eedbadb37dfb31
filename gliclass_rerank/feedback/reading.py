"""Reading of a feedback log."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, ParamSpec, TypeVar

from gliclass_rerank.database.database import Database
from gliclass_rerank.errors import DataError, cause
from gliclass_rerank.feedback.entries import LoggedRanking, ShownPassage, Signal

_PAGE: Final = 500
_RANKINGS: Final = "SELECT number, id, time, model, query, scope FROM rankings"
_SHOWN: Final = (
    "SELECT place, logit, score, text, object, judged FROM shown LEFT JOIN texts ON texts.digest = shown.digest"
    " WHERE ranking = ? ORDER BY position"
)
_SIGNALS: Final = (
    "SELECT number, kind, time, value, ranking, place, query, text FROM signals"
    " LEFT JOIN texts ON texts.digest = signals.digest"
)

P = ParamSpec("P")
T = TypeVar("T")


def find_ranking(database: Database, ranking_id: str) -> LoggedRanking | None:
    """Read a ranking by its id; None if it is missing, a `DataError` if it is broken."""
    found = database.select(f"{_RANKINGS} WHERE id = ?", (ranking_id,))
    return _ranking(database, found[0]) if found else None


def read_rankings(database: Database) -> Iterator[LoggedRanking]:
    """Read all rankings in order of writing, a page at a time."""
    for row in _paged(database, _RANKINGS):
        yield _ranking(database, row)


def read_signals(database: Database) -> Iterator[Signal]:
    """Read all signals in order of writing, a page at a time."""
    for _, *values in _paged(database, _SIGNALS):
        yield _read_out(database, _signal, *values)


def _paged(database: Database, statement: str) -> Iterator[tuple[Any, ...]]:  # Any: SQLite values
    last = -1
    while found := database.select(f"{statement} WHERE number > ? ORDER BY number LIMIT {_PAGE}", (last,)):
        yield from found
        last = found[-1][0]


def _ranking(database: Database, row: Sequence[Any]) -> LoggedRanking:  # Any: SQLite values
    number, *values = row
    return _read_out(database, _to_ranking, values, database.select(_SHOWN, (number,)))


def _to_ranking(values: Sequence[Any], passages: Sequence[Sequence[Any]]) -> LoggedRanking:  # Any: SQLite values
    name, time, model, query, scope = values
    where = json.loads(scope)
    if not isinstance(name, str) or not isinstance(model, str) or not isinstance(where, dict):
        raise TypeError("a ranking has values of another type")
    return LoggedRanking(name, float(time), model, _text(query), tuple(_passage(*one) for one in passages), where)


def _passage(place: Any, logit: Any, score: Any, text: Any, name: Any, judged: Any) -> ShownPassage:  # SQLite values
    if judged not in (None, "relevant", "irrelevant"):
        raise ValueError("a judgement has another value")
    return ShownPassage(int(place), _number(logit), _number(score), _text(text), _text(name), judged)


def _signal(
    kind: Any,
    time: Any,
    value: Any,
    ranking: Any,
    place: Any,
    query: Any,
    text: Any,  # SQLite values
) -> Signal:
    if kind not in ("click", "rating", "grade", "judgement"):
        raise ValueError("a signal has another kind")
    index = None if place is None else int(place)
    return Signal(kind, float(time), float(value), _text(ranking), index, _text(query), _text(text))


def _text(value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError("a text is not a text")
    return value


def _number(value: Any) -> float | None:  # Any: SQLite values
    return None if value is None else float(value)


def _read_out(database: Database, read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function that builds objects from untrusted file content."""
    try:
        return read(*args, **kwargs)
    except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise DataError(f"{database.name} is broken: {cause(error)}") from error
