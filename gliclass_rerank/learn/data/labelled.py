"""Files of labelled records of either kind, with every field that their lines have."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gliclass_rerank.errors import DataError
from gliclass_rerank.learn.evaluation.files import Record, read_jsonl
from gliclass_rerank.learn.training.config import Kind
from gliclass_rerank.learn.training.records import (
    ClassificationRecord,
    RankingRecord,
    classification_record,
    known_labels,
    ranking_record,
)
from gliclass_rerank.learn.training.sources import RecordFile


@dataclass(frozen=True)
class Labelled:
    """One line.

    Attributes:
        record: What training reads.
        fields: All that the line holds.
    """

    record: RankingRecord | ClassificationRecord
    fields: Mapping[str, Any]  # Any: JSON

    @property
    def text(self) -> str:
        """The query, or the text to classify: by which similar records are found."""
        return self.record.query if isinstance(self.record, RankingRecord) else self.record.text

    def with_examples(self, examples: Sequence[Mapping[str, Any]]) -> JsonLine:  # Any: JSON
        """The line with other examples.

        Args:
            examples: In the order in which they are shown.

        Returns:
            A line that needs no list of labels beside it.
        """
        fields: dict[str, Any] = {**self.fields, "examples": [dict(example) for example in examples]}
        if isinstance(self.record, ClassificationRecord):
            fields["all_labels"] = [*self.record.all_labels]
        return JsonLine(fields)


@dataclass(frozen=True)
class JsonLine:
    """A line to write.

    Attributes:
        fields: What it shall hold.
    """

    fields: Mapping[str, Any]  # Any: JSON

    def to_line(self) -> str:
        """The line without its end."""
        return json.dumps(self.fields, ensure_ascii=False)


def find_kind(path: Path) -> Kind:
    """Find out what the records of a file are, from its first line.

    Args:
        path: The file.

    Returns:
        The kind.

    Raises:
        DataError: The file is empty, cannot be read, or holds something else.
    """
    for record in read_jsonl(path):
        if "query" in record.fields:
            return "ranking"
        if "text" in record.fields:
            return "classification"
        raise DataError(f"{record.place}: a labelled record has a `query` or a `text`, got neither")
    raise DataError(f"{path}: holds no records")


def labelled_parser(path: Path, kind: Kind, labels: Sequence[str] | None = None) -> Callable[[Record], Labelled]:
    """Make the function that reads a line.

    Args:
        path: The file.
        kind: What it holds.
        labels: All labels, for classification records that do not list theirs; None reads `labels.json` beside the
            file.

    Returns:
        The function; it raises a `DataError` that names file and line.

    Raises:
        DataError: `labels.json` is malformed.
    """
    if kind == "ranking":
        return lambda record: Labelled(ranking_record(record), record.fields)
    known = known_labels(path) if labels is None else tuple(labels)
    return lambda record: Labelled(classification_record(record, known), record.fields)


def open_labelled(path: Path, kind: Kind, labels: Sequence[str] | None = None) -> RecordFile[Labelled]:
    """Check a file and open it.

    Args:
        path: A file that exists.
        kind: What it holds.
        labels: As for `labelled_parser`.

    Returns:
        Its records by position.

    Raises:
        DataError: A line is malformed, or there is none.
    """
    return RecordFile(path, labelled_parser(path, kind, labels))
