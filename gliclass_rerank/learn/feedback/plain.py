"""Feedback logs as plain JSONL, one entry a line, complete.

```
{"type": "ranking", "id": str, "time": number, "model": str, "query": str or null, "where": {},
 "shown": [{"index": int, "logit": number, "score": number, "text": str, "id": str, "judged": str}]}
{"type": "signal", "kind": str, "time": number, "value": number, "ranking_id": str, "index": int,
 "query": str, "text": str}                                                    null where there is none
```
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, TypeVar, cast, get_args

from gliclass_rerank.checks import checked_path
from gliclass_rerank.errors import DataError, shown
from gliclass_rerank.feedback import FeedbackLog, LoggedRanking, ShownPassage, Signal
from gliclass_rerank.feedback.entries import Kind
from gliclass_rerank.files.atomic_write import atomic_file
from gliclass_rerank.learn.evaluation.files import Record, read_jsonl
from gliclass_rerank.learn.feedback.fields import (
    Imported,
    in_batches,
    mappings_at,
    number_at,
    optional_number,
    position_at,
    text_at,
)
from gliclass_rerank.types import Judged

Entry = TypeVar("Entry", LoggedRanking, Signal)

_TYPES: Final = {LoggedRanking: "ranking", Signal: "signal"}


def export_jsonl(log: FeedbackLog, path: str | Path) -> int:
    """Write all entries of a log, rankings first.

    Args:
        log: Log.
        path: Target, replaced if it exists.

    Returns:
        Number of lines.
    """
    count = 0
    with atomic_file(checked_path("path", path)) as partial, partial.open("w", encoding="utf-8") as file:
        for entries in (log.rankings(), log.signals()):
            for entry in cast("Iterable[LoggedRanking | Signal]", entries):
                file.write(json.dumps({"type": _TYPES[type(entry)], **asdict(entry)}, ensure_ascii=False) + "\n")
                count += 1
    return count


def import_jsonl(log: FeedbackLog, path: str | Path) -> Imported:
    """Add the entries of a file to a log; those that are there already are left out.

    Args:
        log: Log.
        path: File that `export_jsonl` wrote; may be gzipped (`.gz`).

    Returns:
        Numbers of entries read.

    Raises:
        DataError: The file cannot be read, or a line is no entry; earlier lines stay.
    """
    source = checked_path("path", path)
    rankings = in_batches(_entries(source, "ranking", _ranking), log.add)
    signals = in_batches(_entries(source, "signal", _signal), lambda batch: log.add_signals(batch, skip_known=True))
    return Imported(rankings, signals)


def _entries(path: Path, kind: str, read: Callable[[Record], Entry]) -> Iterable[Entry]:
    for record in read_jsonl(path):
        found = record.fields.get("type")
        if found not in _TYPES.values():
            raise DataError(f"{record.place}: `type` must be `ranking` or `signal`, got {shown(found)}")
        if found == kind:
            yield read(record)


def _ranking(record: Record) -> LoggedRanking:
    where = record.fields.get("where", {})
    if not isinstance(where, dict):
        raise DataError(f"{record.place}: `where` must be an object, got {shown(where)}")
    return LoggedRanking(
        record.string("id"),
        number_at(record, record.fields, "time"),
        record.string("model"),
        text_at(record, record.fields, "query"),
        tuple(_passage(record, fields) for fields in mappings_at(record, record.fields, "shown")),
        where,
    )


def _passage(record: Record, fields: Any) -> ShownPassage:  # Any: JSON
    judged = fields.get("judged")
    if judged not in (None, *get_args(Judged)):
        raise DataError(f"{record.place}: `judged` must be `relevant` or `irrelevant`, got {shown(judged)}")
    return ShownPassage(
        position_at(record, fields, "index"),
        optional_number(record, fields, "logit"),
        optional_number(record, fields, "score"),
        text_at(record, fields, "text"),
        text_at(record, fields, "id"),
        judged,
    )


def _signal(record: Record) -> Signal:
    kind = record.fields.get("kind")
    if kind not in get_args(Kind):
        raise DataError(f"{record.place}: `kind` must be one of {', '.join(get_args(Kind))}, got {shown(kind)}")
    index = None if record.fields.get("index") is None else position_at(record, record.fields, "index")
    return Signal(
        cast("Kind", kind),
        number_at(record, record.fields, "time"),
        number_at(record, record.fields, "value"),
        text_at(record, record.fields, "ranking_id"),
        index,
        text_at(record, record.fields, "query"),
        text_at(record, record.fields, "text"),
    )
