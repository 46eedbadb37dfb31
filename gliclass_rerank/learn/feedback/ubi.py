"""Feedback logs as User Behavior Insights 1.3, which OpenSearch, Elasticsearch and Solr write (o19s/ubi).

Two JSONL files, as their indexes `ubi_queries` and `ubi_events` are exported: an object a line, perhaps within
`_source`. UBI names passages by ids; their texts are not in it. What it has no field for is in
`query_attributes.gliclass_rerank`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

from gliclass_rerank.checks import checked_path
from gliclass_rerank.errors import DataError, InputError, shown
from gliclass_rerank.feedback import FeedbackLog, LoggedRanking, ShownPassage, Signal
from gliclass_rerank.files.atomic_write import atomic_file
from gliclass_rerank.learn.evaluation.files import Record, read_jsonl
from gliclass_rerank.learn.feedback.fields import Imported, in_batches

_OURS: Final = "gliclass_rerank"
_CLICKS: Final = ("click", "click_through")
_RATING: Final = "RATING"
_UNKNOWN_MODEL: Final = "unknown"


def export_ubi(log: FeedbackLog, queries: str | Path, events: str | Path) -> Imported:
    """Write the rankings of a log, and their clicks, grades and ratings.

    A passage without an id has its position in the caller's list for one. Judgements of a query's passages by text have
    no place in UBI.

    Args:
        log: Log.
        queries: Target of the queries, replaced if it exists.
        events: Target of the events, replaced if it exists.

    Returns:
        Numbers of rankings and signals written, and of judgements left out.
    """
    num_signals = num_skipped = num_rankings = 0
    with atomic_file(checked_path("queries", queries)) as partial, partial.open("w", encoding="utf-8") as file:
        for ranking in log.rankings():
            file.write(json.dumps(_query(ranking), ensure_ascii=False) + "\n")
            num_rankings += 1
    with atomic_file(checked_path("events", events)) as partial, partial.open("w", encoding="utf-8") as file:
        for signal in log.signals():
            if signal.ranking_id is None or (event := _event(log, signal)) is None:
                num_skipped += 1
                continue
            file.write(json.dumps(event, ensure_ascii=False) + "\n")
            num_signals += 1
    return Imported(num_rankings, num_signals, num_skipped)


def import_ubi(
    log: FeedbackLog,
    queries: str | Path,
    events: str | Path,
    *,
    texts: Mapping[str, str] | None = None,
    clicks: Collection[str] = _CLICKS,
) -> Imported:
    """Add queries and events to a log; those that are there already are left out.

    Args:
        log: Log.
        queries: Queries; may be gzipped (`.gz`).
        events: Events; may be gzipped.
        texts: Passages by id; ids without one are kept without text.
        clicks: Actions that count as clicks. `grade` and ratings of `export_ubi` are read, others skipped.

    Returns:
        Numbers of rankings and signals read, and of lines skipped.

    Raises:
        InputError: `clicks` is a string.
        DataError: A file cannot be read, or a line is no such object; earlier lines stay.
    """
    if isinstance(clicks, str):
        raise InputError(f"`clicks` must be a list of actions, got {shown(clicks)}")
    known = texts or {}
    read = [_object(record) for record in read_jsonl(checked_path("queries", queries))]
    named = [(record, fields) for record, fields in read if isinstance(fields.get("query_id"), str)]
    num_rankings = in_batches((_ranking(record, fields, known) for record, fields in named), log.add)
    num_lines = 0

    def signals() -> Iterator[Signal]:
        nonlocal num_lines
        for record in read_jsonl(checked_path("events", events)):
            num_lines += 1
            signal = _signal(log, *_object(record), clicks)
            if signal is not None:
                yield signal

    num_signals = in_batches(signals(), lambda batch: log.add_signals(batch, skip_known=True))
    return Imported(num_rankings, num_signals, len(read) - len(named) + num_lines - num_signals)


def _query(ranking: LoggedRanking) -> dict[str, Any]:  # Any: JSON
    ours = {
        "model": ranking.model,
        "where": dict(ranking.where),
        "shown": [
            {"index": one.index, "logit": one.logit, "score": one.score, "judged": one.judged} for one in ranking.shown
        ],
    }
    return {
        "application": "gliclass-rerank",
        "query_id": ranking.id,
        "user_query": ranking.query or "",
        "timestamp": _timestamp(ranking.time),
        "query_response_hit_ids": [_object_id(one) for one in ranking.shown],
        "query_attributes": {_OURS: ours},
    }


def _object_id(passage: ShownPassage) -> str:
    return str(passage.index) if passage.id is None else passage.id


def _event(log: FeedbackLog, signal: Signal) -> dict[str, Any] | None:  # Any: JSON
    event = {
        "application": "gliclass-rerank",
        "action_name": signal.kind,
        "query_id": signal.ranking_id,
        "timestamp": _timestamp(signal.time),
    }
    if signal.kind == "rating":
        return {**event, "message_type": _RATING, "message": str(signal.value)}
    shown_there = log.ranking(signal.ranking_id or "").shown
    found = [(place, one) for place, one in enumerate(shown_there, start=1) if one.index == signal.index]
    if not found:
        return None  # the passage was forgotten
    ((place, passage),) = found
    attributes: dict[str, Any] = {"object": {"object_id": _object_id(passage)}, "position": {"ordinal": place}}
    if signal.kind == "grade":
        attributes["grade"] = signal.value
    return {**event, "event_attributes": attributes}


def _object(record: Record) -> tuple[Record, Mapping[str, Any]]:  # Any: JSON
    source = record.fields.get("_source", record.fields)
    return record, source if isinstance(source, dict) else {}


def _ranking(record: Record, fields: Mapping[str, Any], texts: Mapping[str, str]) -> LoggedRanking:  # Any: JSON
    names = fields.get("query_response_hit_ids") or []
    if not isinstance(names, list):
        raise DataError(f"{record.place}: `query_response_hit_ids` must be a list, got {shown(names)}")
    ours = _mapping(_mapping(fields.get("query_attributes")).get(_OURS))
    details = ours.get("shown")
    if not isinstance(details, list) or len(details) != len(names):
        details = [{}] * len(names)
    passages = [
        _passage(place, str(name), _mapping(more), texts)
        for place, (name, more) in enumerate(zip(names, details, strict=True))
    ]
    query, model = fields.get("user_query"), ours.get("model")
    return LoggedRanking(
        fields["query_id"],
        _seconds(record, fields.get("timestamp")),
        model if isinstance(model, str) else _UNKNOWN_MODEL,
        query if isinstance(query, str) else "",
        tuple(passages),
        _mapping(ours.get("where")),
    )


def _passage(place: int, name: str, more: Mapping[str, Any], texts: Mapping[str, str]) -> ShownPassage:  # Any: JSON
    index, judged = more.get("index"), more.get("judged")
    return ShownPassage(
        index if isinstance(index, int) else place,
        _number(more.get("logit")),
        _number(more.get("score")),
        texts.get(name),
        name,
        judged if judged in ("relevant", "irrelevant") else None,
    )


def _signal(
    log: FeedbackLog,
    record: Record,
    fields: Mapping[str, Any],
    clicks: Collection[str],  # Any: JSON
) -> Signal | None:
    action, name = fields.get("action_name"), fields.get("query_id")
    if not isinstance(name, str) or not isinstance(action, str):
        return None
    try:
        ranking = log.ranking(name)
    except InputError:
        return None
    at = _seconds(record, fields.get("timestamp"))
    if fields.get("message_type") == _RATING:
        value = _number(fields.get("message"))
        return None if value is None or not 0 <= value <= 1 else Signal("rating", at, value, name)
    attributes = _mapping(fields.get("event_attributes"))
    index = _index(ranking, attributes)
    if index is None or (action not in clicks and action != "grade"):
        return None
    grade = _number(attributes.get("grade"))
    if action == "grade":
        return None if grade is None or grade < 0 else Signal("grade", at, grade, name, index)
    return Signal("click", at, 1.0, name, index)


def _index(ranking: LoggedRanking, attributes: Mapping[str, Any]) -> int | None:  # Any: JSON
    """Position in the caller's list of the passage of an event: by its id, else by its place in the list shown."""
    wanted = _mapping(attributes.get("object")).get("object_id")
    for one in ranking.shown:
        if wanted is not None and str(wanted) == _object_id(one):
            return one.index
    place = _mapping(attributes.get("position")).get("ordinal")
    if wanted is None and isinstance(place, int) and 1 <= place <= len(ranking.shown):
        return ranking.shown[place - 1].index
    return None


def _mapping(value: object) -> Mapping[str, Any]:  # Any: JSON
    return value if isinstance(value, dict) else {}


def _number(value: object) -> float | None:
    try:
        number = math.nan if value is None or isinstance(value, bool) else float(value)  # type: ignore[arg-type] # below
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat().replace("+00:00", "Z")


def _seconds(record: Record, timestamp: object) -> float:
    try:
        read = datetime.fromisoformat(str(timestamp).replace("Z", "+00:00"))
        return (read if read.tzinfo else read.replace(tzinfo=timezone.utc)).timestamp()
    except (ValueError, OverflowError):
        raise DataError(f"{record.place}: `timestamp` must be a time in ISO 8601, got {shown(timestamp)}") from None
