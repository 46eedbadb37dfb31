"""Labelled records of either kind, with all fields of their lines."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gliclass_rerank.errors import DataError
from gliclass_rerank.learn.evaluation.files import Record, read_jsonl
from gliclass_rerank.learn.training.record_file import RecordFile
from gliclass_rerank.learn.training.records import (
    ClassificationRecord,
    RankingRecord,
    classification_record,
    known_labels,
    ranking_record,
)
from gliclass_rerank.learn.training.source_config import Kind


@dataclass(frozen=True)
class Labelled:
    """Labelled line.

    Attributes:
        record: Training record.
        fields: All fields of the line.
    """

    record: RankingRecord | ClassificationRecord
    fields: Mapping[str, Any]  # Any: JSON

    @property
    def text(self) -> str:
        """Query, or text to classify, by which similar records are found."""
        return self.record.query if isinstance(self.record, RankingRecord) else self.record.text

    def with_examples(self, examples: Sequence[Mapping[str, Any]]) -> JsonLine:  # Any: JSON
        """Replace the line's examples; the result needs no list of labels beside it."""
        fields: dict[str, Any] = {**self.fields, "examples": [dict(example) for example in examples]}
        if isinstance(self.record, ClassificationRecord):
            fields["all_labels"] = [*self.record.all_labels]
        return JsonLine(fields)


@dataclass(frozen=True)
class JsonLine:
    """Line to write.

    Attributes:
        fields: JSON object.
    """

    fields: Mapping[str, Any]  # Any: JSON

    def to_line(self) -> str:
        """Serialise without a line end."""
        return json.dumps(self.fields, ensure_ascii=False)


def find_kind(path: Path) -> Kind:
    """Detect the kind of a file's records from its first line; a `DataError` if it is neither."""
    for record in read_jsonl(path):
        if "query" in record.fields:
            return "ranking"
        if "text" in record.fields:
            return "classification"
        raise DataError(f"{record.place}: a labelled record has a `query` or a `text`, got neither")
    raise DataError(f"{path}: holds no records")


def labelled_parser(path: Path, kind: Kind, labels: Sequence[str] | None = None) -> Callable[[Record], Labelled]:
    """Build the parser of a file's lines.

    Args:
        path: Data file.
        kind: Kind of records.
        labels: All labels, for classification records without them; None reads `labels.json` beside the file.

    Returns:
        Parser that raises a `DataError` with file and line.

    Raises:
        DataError: `labels.json` is malformed.
    """
    if kind == "ranking":
        return lambda record: Labelled(ranking_record(record), record.fields)
    known = known_labels(path) if labels is None else tuple(labels)
    return lambda record: Labelled(classification_record(record, known), record.fields)


def open_labelled(path: Path, kind: Kind, labels: Sequence[str] | None = None) -> RecordFile[Labelled]:
    """Validate and open a file; arguments as for `labelled_parser`.

    Raises a `DataError` if a line is malformed or there is none.
    """
    return RecordFile(path, labelled_parser(path, kind, labels))
