"""Lines of plain and gzipped text, JSONL and TSV files.

A file that cannot be read is a `DataError`; so is a malformed line, and then the message starts with
`file:line`. Lines end with a line feed and are decoded one by one, so that the number is right whatever is
wrong with the line.
"""

from __future__ import annotations

import gzip
import json
import reprlib
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from gliclass_rerank.errors import DataError

GZIP_SUFFIX = ".gz"


@dataclass(frozen=True)
class Record:
    """The JSON object on one line of a JSONL file.

    Attributes:
        place: File and line, as messages name it.
        line: Line number, from 1.
        fields: The object. Values are whatever the file holds.
    """

    place: str
    line: int
    fields: Mapping[str, Any]  # JSON

    def string(self, key: str, default: str | None = None) -> str:
        """Return the string at `key`.

        Args:
            key: Name of the field.
            default: Returned when the field is absent or null.

        Returns:
            The string, unchanged.

        Raises:
            DataError: The field is not a string, or it is absent and there is no default.
        """
        value = self.fields.get(key)
        if value is None and default is not None:
            return default
        if not isinstance(value, str):
            raise DataError(f"{self.place}: `{key}` must be a string, got {reprlib.repr(value)}")
        return value

    def strings(self, key: str) -> tuple[str, ...]:
        """Return the list of strings at `key`.

        Args:
            key: Name of the field.

        Returns:
            The strings in file order.

        Raises:
            DataError: The field is absent or not a list of strings.
        """
        values = self.fields.get(key)
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise DataError(f"{self.place}: `{key}` must be a list of strings, got {reprlib.repr(values)}")
        return tuple(values)


def existing(path: Path) -> Path | None:
    """Return `path`, else `path` with `.gz` appended, whichever is a file; else None."""
    zipped = Path(f"{path}{GZIP_SUFFIX}")
    return next((candidate for candidate in (path, zipped) if candidate.is_file()), None)


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Read the lines of a text file that are not blank.

    Args:
        path: UTF-8 text, gzipped if the name ends in `.gz`. A byte order mark is dropped.

    Yields:
        Line number (from 1) and the line without its end.

    Raises:
        DataError: The file cannot be opened or unpacked, or a line is not UTF-8.
    """
    try:
        with _open(path) as handle:
            for line, raw in enumerate(handle, start=1):
                text = _decode(raw, path, line)
                if text.strip():
                    yield line, text
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read: {reason}") from error


def read_jsonl(path: Path) -> Iterator[Record]:
    """Read a JSONL file; blank lines are skipped.

    Args:
        path: File with one JSON object per line.

    Yields:
        One record per line.

    Raises:
        DataError: The file cannot be read or a line is not a JSON object.
    """
    for line, text in read_lines(path):
        place = f"{path}:{line}"
        try:
            fields = json.loads(text)
        except json.JSONDecodeError as error:
            raise DataError(f"{place}: not JSON: {error.msg} at column {error.colno}") from error
        if not isinstance(fields, dict):
            raise DataError(f"{place}: must be a JSON object, got {reprlib.repr(fields)}")
        yield Record(place, line, fields)


def read_tsv(path: Path, num_columns: int) -> Iterator[tuple[str, list[str]]]:
    """Read a TSV file without a header; blank lines are skipped, nothing is quoted.

    Args:
        path: File with one row per line.
        num_columns: Columns that every row must have.

    Yields:
        The row's place (`file:line`) and its cells.

    Raises:
        DataError: The file cannot be read or a row has another number of columns.
    """
    for line, text in read_lines(path):
        cells = text.split("\t")
        if len(cells) != num_columns:
            raise DataError(f"{path}:{line}: must have {num_columns} tab-separated columns, got {len(cells)}")
        yield f"{path}:{line}", cells


def _open(path: Path) -> BinaryIO:
    if path.name.endswith(GZIP_SUFFIX):
        return cast(BinaryIO, gzip.open(path, "rb"))  # GzipFile is one in all but name
    return path.open("rb")


def _decode(raw: bytes, path: Path, line: int) -> str:
    try:
        text = raw.decode("utf-8-sig" if line == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}:{line}: not UTF-8 at byte {error.start + 1} of the line") from error
    return text.rstrip("\r\n")
