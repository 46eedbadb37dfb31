"""Training records, parsed and checked field by field; docs/guide/training.md describes the formats.

Messages name file and line. Unknown keys are ignored.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gliclass_rerank.checks import checked_text, named
from gliclass_rerank.errors import DataError, InputError, listed, shown
from gliclass_rerank.learn.evaluation.files import Record, read_json
from gliclass_rerank.types import Example

UNKNOWN = math.nan
"""Grade of an unjudged candidate."""


@dataclass(frozen=True)
class RankingRecord:
    """Query with passages.

    Attributes:
        place: File and line.
        query: Query; not blank.
        passages: At least one.
        grades: One per passage, positive above 0; `UNKNOWN` if unjudged.
        teacher_scores: One score per passage by teacher.
        examples: Judged examples to show with the query.
    """

    place: str
    query: str
    passages: tuple[str, ...]
    grades: tuple[float, ...]
    teacher_scores: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    examples: tuple[Example, ...] = ()


@dataclass(frozen=True)
class ClassificationRecord:
    """Text with labels.

    Attributes:
        place: File and line.
        text: Text to classify; not blank.
        labels: True labels; may be empty.
        all_labels: All labels, at least one.
        examples: Judged examples to show with the text.
    """

    place: str
    text: str
    labels: tuple[str, ...]
    all_labels: tuple[str, ...]
    examples: tuple[Example, ...] = ()


@dataclass(frozen=True)
class TextsRecord:
    """Texts with teachers' vectors.

    Attributes:
        place: Folder and rows.
        texts: Texts, at least one.
        vectors: FloatArray [num_texts, width] by teacher.
    """

    place: str
    texts: tuple[str, ...]
    vectors: Mapping[str, NDArray[np.float32]]


AnyRecord = RankingRecord | ClassificationRecord | TextsRecord


def ranking_record(record: Record) -> RankingRecord:
    """Parse a line: passages with grades or teacher scores, or positives and negatives; a `DataError` if invalid."""
    query, examples = _text(record, "query"), _examples(record)
    if "passages" in record.fields:
        if short := {"positives", "negatives"} & record.fields.keys():
            raise DataError(f"{record.place}: `passages` goes with `grades`, not with {listed(short)}")
        passages = _texts(record, "passages")
        grades = _grades(record, len(passages))
        scores = _teacher_scores(record, len(passages))
        if not scores and all(map(math.isnan, grades)):
            raise DataError(
                f"{record.place}: nothing to learn: no passage has a grade, and there are no teacher scores"
            )
    else:
        positives, negatives = _texts(record, "positives"), _texts(record, "negatives")
        passages, scores = positives + negatives, {}
        grades = (1.0,) * len(positives) + (0.0,) * len(negatives)
    if not passages:
        raise DataError(f"{record.place}: a query needs at least one passage, got none")
    return RankingRecord(record.place, query, passages, grades, scores, examples)


def classification_record(record: Record, known_labels: Sequence[str] | None = None) -> ClassificationRecord:
    """Parse a line: a text, its labels, and perhaps all labels.

    Args:
        record: Parsed line.
        known_labels: All labels, for lines that do not list them.

    Returns:
        The record.

    Raises:
        DataError: A field is missing or of the wrong type, or a label is unknown.
    """
    text, labels = _text(record, "text"), _texts(record, "labels")
    if record.fields.get("all_labels") is not None:
        all_labels = _texts(record, "all_labels")
    elif known_labels is not None:
        all_labels = tuple(known_labels)
    else:
        raise DataError(f"{record.place}: `all_labels` is missing, and neither the config nor labels.json has a list")
    if not all_labels:
        raise DataError(f"{record.place}: `all_labels` must hold at least one label, got none")
    if strange := set(labels).difference(all_labels):
        raise DataError(f"{record.place}: labels must be among all labels, got {listed(strange)}")
    return ClassificationRecord(record.place, text, labels, tuple(dict.fromkeys(all_labels)), _examples(record))


def text_record(record: Record) -> str:
    """Parse a line with a `text`; a `DataError` if it is missing or blank."""
    return _text(record, "text")


def _text(record: Record, key: str) -> str:
    text = _valid(record, key, record.string(key))
    if not text.strip():
        raise DataError(f"{record.place}: `{key}` must not be blank, got {shown(text)}")
    return text


def _texts(record: Record, key: str) -> tuple[str, ...]:
    return tuple(_valid(record, f"{key}[{index}]", text) for index, text in enumerate(record.strings(key)))


def _valid(record: Record, key: str, text: str) -> str:
    try:
        return checked_text(f"`{key}`", text)  # JSON can spell a lone surrogate
    except InputError as error:
        raise DataError(f"{record.place}: {error}") from None


def _examples(record: Record) -> tuple[Example, ...]:
    values = record.fields.get("examples")
    if values is None:
        return ()
    if not isinstance(values, list):
        raise DataError(f"{record.place}: `examples` must be a list, got {shown(values)}")
    return tuple(_example(record, number, value) for number, value in enumerate(values))


def _example(record: Record, number: int, value: object) -> Example:
    try:
        return Example.of(value)  # type: ignore[arg-type] # refused if it is no mapping
    except InputError as error:
        raise DataError(f"{record.place}: `examples[{number}]`: {error}") from None


def _grades(record: Record, count: int) -> tuple[float, ...]:
    values = record.fields.get("grades")
    if values is None:
        return (UNKNOWN,) * count
    return _numbers(
        record, "grades", [UNKNOWN if value is None else value for value in _list(record, "grades", values)], count
    )


def _teacher_scores(record: Record, count: int) -> dict[str, tuple[float, ...]]:
    values = record.fields.get("teacher_scores")
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise DataError(f"{record.place}: `teacher_scores` must map names to lists, got {shown(values)}")
    return {
        name: _numbers(
            record,
            f"teacher_scores.{named(name)}",
            _list(record, f"teacher_scores.{named(name)}", scores),
            count,
            finite=True,
        )
        for name, scores in values.items()
    }


def _list(record: Record, key: str, values: object) -> list[object]:
    if not isinstance(values, list):
        raise DataError(f"{record.place}: `{key}` must be a list of numbers, got {shown(values)}")
    return values


def _numbers(
    record: Record, key: str, values: Sequence[object], count: int, *, finite: bool = False
) -> tuple[float, ...]:
    if len(values) != count:
        raise DataError(
            f"{record.place}: `{key}` must have one number for each of the {count} passages, got {len(values)}"
        )
    for value in values:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or math.isinf(value) or (finite and math.isnan(value)):  # type: ignore[arg-type] # a number
            raise DataError(f"{record.place}: `{key}` must hold finite numbers, got {shown(value)}")
    return tuple(float(value) for value in values)  # type: ignore[arg-type] # checked above


def known_labels(path: Path) -> tuple[str, ...] | None:
    """Read the `labels.json` beside a data file, or None; a `DataError` unless it is a list of distinct strings."""
    file = path.parent / "labels.json"
    return read_labels(file) if file.is_file() else None


def read_labels(file: Path) -> tuple[str, ...]:
    """Read a JSON list of distinct labels; anything else is a `DataError`."""
    labels = read_json(file)
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise DataError(f"{named(file)}: must be a JSON list of labels, got {shown(labels)}")
    if len(set(labels)) < len(labels):
        repeated = {label for label, count in Counter(labels).items() if count > 1}
        raise DataError(f"{named(file)}: labels must differ, got {listed(repeated)} twice")
    return tuple(labels)
