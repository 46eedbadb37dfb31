"""Records of a JSONL file by position: validated once, then read lazily.

A plain file is indexed by line offset; a gzipped file is not seekable, so its lines are kept in memory.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from gliclass_rerank.errors import DataError
from gliclass_rerank.learn.evaluation.files import GZIP_SUFFIX, Record, read_jsonl, read_lines

Parsed = TypeVar("Parsed")
Parsed_co = TypeVar("Parsed_co", covariant=True)


class Records(Protocol[Parsed_co]):
    """Records by position."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Parsed_co: ...


class RecordFile(Generic[Parsed]):
    """Records of a JSONL file by position, blank lines skipped; thread-safe.

    Args:
        path: JSONL file; gzipped if its name ends in `.gz`.
        parse: Parser of a line.

    Raises:
        DataError: The file is unreadable, a line is malformed, or there is none.
    """

    def __init__(self, path: Path, parse: Callable[[Record], Parsed]) -> None:
        self.path = path
        self._parse = parse
        self._lines = array("Q")  # line numbers of the records
        for record in read_jsonl(path):
            parse(record)
            self._lines.append(record.line)
        if not self._lines:
            raise DataError(f"{path}: holds no records")
        is_zipped = path.name.endswith(GZIP_SUFFIX)
        self._texts = [text for _, text in read_lines(path)] if is_zipped else None
        self._starts = None if is_zipped else _line_starts(path)

    def __len__(self) -> int:
        return len(self._lines)

    def __getitem__(self, index: int) -> Parsed:
        line = self._lines[index]
        place = f"{self.path}:{line}"
        try:
            fields = json.loads(self._text(index, line))
        except ValueError as error:
            raise DataError(f"{place}: the file has changed since it was checked: {error}") from error
        return self._parse(Record(place, line, fields))

    def _text(self, index: int, line: int) -> str:
        if self._texts is not None:
            return self._texts[index]
        assert self._starts is not None, "one of the two is kept"
        with self.path.open("rb") as handle:
            handle.seek(self._starts[line - 1])
            return handle.readline().decode("utf-8-sig" if line == 1 else "utf-8")


def _line_starts(path: Path) -> array[int]:
    starts, position = array("Q"), 0
    with path.open("rb") as handle:
        for raw in handle:
            starts.append(position)
            position += len(raw)
    return starts
