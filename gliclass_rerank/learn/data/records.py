"""Ranking records of data preparation: a query, passages and their judgments; one JSON object per line.

```
{"query": str, "passages": [str], "grades": [number or null],      null: unjudged
 "teacher_scores": {"<teacher>": [number]},                        optional; any scale, higher is better
 "query_id": str, "passage_ids": [str]}                            optional
```

Lists are parallel to `passages`. Other fields are carried along unchanged.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from gliclass_rerank.checks import named
from gliclass_rerank.errors import DataError, shown
from gliclass_rerank.learn.evaluation.files import Record, read_jsonl

# float32 carries about seven digits; nothing reads more than these.
_SCORE_DECIMALS: Final = 5
_FIELDS: Final = frozenset({"query", "passages", "grades", "teacher_scores", "query_id", "passage_ids"})


@dataclass(frozen=True, kw_only=True)
class RankingRecord:
    """Query with its candidates.

    Attributes:
        query: Query; not blank.
        passages: Candidates; may be empty.
        grades: Grade per passage (relevant above 0), or None if unjudged.
        teacher_scores: One score per passage by teacher.
        query_id: Origin of the query, if known.
        passage_ids: Origins of the passages, if known.
        extra: Other fields of the line.
    """

    query: str
    passages: tuple[str, ...]
    grades: tuple[float | None, ...]
    teacher_scores: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    query_id: str | None = None
    passage_ids: tuple[str, ...] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON

    @property
    def has_positive(self) -> bool:
        """True if a passage is judged relevant."""
        return any(grade is not None and grade > 0 for grade in self.grades)

    def with_scores(self, teacher: str, scores: Sequence[float]) -> RankingRecord:
        """Copy with a teacher's scores, one per passage, added or replaced, rounded to five decimals."""
        rounded = tuple(round(score, _SCORE_DECIMALS) for score in scores)
        return replace(self, teacher_scores={**self.teacher_scores, teacher: rounded})

    def to_line(self) -> str:
        """Serialise to one line of JSON without its end; absent fields are omitted."""
        known: dict[str, Any] = {  # Any: JSON
            "query_id": self.query_id,
            "query": self.query,
            "passage_ids": self.passage_ids,
            "passages": self.passages,
            "grades": self.grades,
            "teacher_scores": self.teacher_scores or None,
        }
        fields = {name: value for name, value in known.items() if value is not None}
        return json.dumps({**fields, **self.extra}, ensure_ascii=False)


def read_records(path: Path) -> Iterator[RankingRecord]:
    """Read a JSONL file of records lazily, gzipped if its name ends in `.gz`; a `DataError` names file and line."""
    return map(parse_record, read_jsonl(path))


def parse_record(line: Record) -> RankingRecord:
    """Validate one line; a missing, malformed or wrongly sized field is a `DataError`."""
    query = checked_unicode(line.place, line.string("query"))
    if not query.strip():
        raise DataError(f"{line.place}: `query` must not be blank, got {shown(query)}")
    passages = tuple(checked_unicode(line.place, passage) for passage in line.strings("passages"))
    count = len(passages)
    teachers = line.fields.get("teacher_scores")
    if teachers is not None and not isinstance(teachers, dict):
        raise DataError(f"{line.place}: `teacher_scores` must be an object, got {shown(teachers)}")
    grades = _numbers(line.place, "grades", line.fields.get("grades"), count, nullable=True)
    return RankingRecord(
        query=query,
        passages=passages,
        grades=grades,
        teacher_scores={
            name: tuple(
                score
                for score in _numbers(line.place, f"teacher_scores.{named(name)}", scores, count, nullable=False)
                if score is not None
            )
            for name, scores in (teachers or {}).items()
        },
        query_id=None if line.fields.get("query_id") is None else line.string("query_id"),
        passage_ids=None if line.fields.get("passage_ids") is None else _ids(line, count),
        extra={name: value for name, value in line.fields.items() if name not in _FIELDS},
    )


def checked_unicode(place: str, text: str) -> str:
    """Return valid Unicode; a lone surrogate, which JSON can spell but no tokenizer reads, is a `DataError`."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{place}: text must be valid Unicode, got {shown(text[error.start])}") from None
    return text


def _ids(line: Record, count: int) -> tuple[str, ...]:
    ids = line.strings("passage_ids")
    _check_length(line.place, "passage_ids", len(ids), count)
    return ids


def _numbers(place: str, name: str, values: object, count: int, *, nullable: bool) -> tuple[float | None, ...]:
    wanted = "numbers and nulls" if nullable else "numbers"
    if not isinstance(values, list):
        raise DataError(f"{place}: `{name}` must be a list of {wanted}, got {shown(values)}")
    _check_length(place, name, len(values), count)
    for value in values:
        if not (_is_number(value) or (nullable and value is None)):
            raise DataError(f"{place}: `{name}` must be a list of {wanted}, got {shown(value)} in it")
    return tuple(values)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _check_length(place: str, name: str, found: int, count: int) -> None:
    if found != count:
        raise DataError(f"{place}: `{name}` must hold one entry for each of the {count} passages, got {found}")
