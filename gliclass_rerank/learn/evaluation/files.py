"""Readers of plain and gzipped text, JSONL and TSV files.

An unreadable file or malformed line is a `DataError`, which starts with `file:line`. Lines end with a line feed and are
decoded one by one, so that line numbers are always right. `-` is standard input, which can be read once.
"""

from __future__ import annotations

import gzip
import json
import re
import stat
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, cast
from weakref import WeakSet

from gliclass_rerank.checks import MAX_NESTING, named, nesting
from gliclass_rerank.errors import DataError, cause, shown

GZIP_SUFFIX = ".gz"
MAX_LINE_BYTES: Final = 1 << 26
_MAX_DIGITS: Final = 300
_STDIN: Final = frozenset({"-", "/dev/stdin", "/dev/fd/0"})
# Open already, as `<(command)` of a shell is; opening it cannot block.
_DESCRIPTOR: Final = re.compile(r"/dev/fd/\d+|/proc/self/fd/\d+")
_read: WeakSet[BinaryIO] = WeakSet()


@dataclass(frozen=True)
class Record:
    """JSON object on one line of a JSONL file.

    Attributes:
        place: File and line, for messages.
        line: Line number, from 1.
        fields: Unchecked object.
    """

    place: str
    line: int
    fields: Mapping[str, Any]  # JSON

    def string(self, key: str, default: str | None = None) -> str:
        """Return the string at `key`.

        Args:
            key: Name of the field.
            default: Value of an absent or null field.

        Returns:
            The string.

        Raises:
            DataError: The field is not a string, or absent without a default.
        """
        value = self.fields.get(key)
        if value is None and default is not None:
            return default
        if not isinstance(value, str):
            raise DataError(f"{self.place}: `{key}` must be a string, got {shown(value)}")
        return value

    @property
    def id(self) -> str:
        """The string at `id`, else at `_id`, as in BEIR's collections; a `DataError` if there is neither."""
        return self.string("_id" if "id" not in self.fields and "_id" in self.fields else "id")

    def strings(self, key: str) -> tuple[str, ...]:
        """Return the list of strings at `key`; a `DataError` if it is absent or of another type."""
        values = self.fields.get(key)
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise DataError(f"{self.place}: `{key}` must be a list of strings, got {shown(values)}")
        return tuple(values)


def is_stream(path: Path) -> bool:
    """Test for standard input and other open descriptors, whose name says nothing of the format."""
    return str(path) in _STDIN or _DESCRIPTOR.fullmatch(str(path)) is not None


def existing(path: Path) -> Path | None:
    """Return `path`, else `path` with `.gz` appended, whichever is a file or stream; else None."""
    if is_stream(path):
        return path
    zipped = Path(f"{path}{GZIP_SUFFIX}")
    try:
        return next((candidate for candidate in (path, zipped) if candidate.is_file()), None)
    except (OSError, ValueError):  # name too long, or with a null byte
        return None


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Read the non-blank lines of a text file.

    Args:
        path: UTF-8 text, gzipped if the name ends in `.gz`. A byte order mark is dropped.

    Yields:
        Line number (from 1) and the line without its end.

    Raises:
        DataError: The file cannot be opened or unpacked, or a line is not UTF-8.
    """
    try:
        with opened(path) as handle:
            for line, raw in enumerate(_bounded_lines(handle, path), start=1):
                text = _decode(raw, path, line)
                if text.strip():
                    yield line, text
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(path, error) from error


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
        yield parsed_record(text, path, line)


def parsed_record(text: str, path: Path, line: int) -> Record:
    """Parse one line of a JSONL file; a `DataError` if it is not a JSON object."""
    place = f"{named(path)}:{line}"
    fields = parsed_json(text, place)
    if not isinstance(fields, dict):
        raise DataError(f"{place}: must be a JSON object, got {shown(fields)}")
    return Record(place, line, fields)


def read_tsv(path: Path, num_columns: int, *, header: Sequence[str] = ()) -> Iterator[tuple[str, list[str]]]:
    """Read a TSV file without quoting; blank lines are skipped.

    Args:
        path: File with one row per line.
        num_columns: Required number of columns.
        header: First row that is skipped, if it is there.

    Yields:
        The row's place (`file:line`) and its cells.

    Raises:
        DataError: The file cannot be read or a row has another number of columns.
    """
    for line, text in read_lines(path):
        cells = text.split("\t")
        if line == 1 and header and cells == [*header]:
            continue
        if len(cells) != num_columns:
            raise DataError(f"{named(path)}:{line}: must have {num_columns} tab-separated columns, got {len(cells)}")
        yield f"{named(path)}:{line}", cells


def read_json(path: Path) -> Any:  # JSON
    """Read a file that holds one JSON value; a `DataError` if it is unreadable or not JSON."""
    try:
        with opened(path) as handle:
            raw = handle.read(MAX_LINE_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(path, error) from error
    if len(raw) > MAX_LINE_BYTES:
        raise DataError(f"{named(path)}: must have at most {MAX_LINE_BYTES >> 20} MiB")
    return parsed_json(_decode(raw, path, 1), named(path))


def parsed_json(text: str, place: str) -> Any:  # JSON
    """Parse untrusted JSON: numbers must fit a float, nesting `MAX_NESTING`.

    Args:
        text: Text to parse.
        place: File and line, for the message.

    Returns:
        The value.

    Raises:
        DataError: The text is not JSON, or out of bounds.
    """
    try:
        value = json.loads(text, parse_int=_bounded_int)
    except json.JSONDecodeError as error:
        raise DataError(f"{place}: not JSON: {error.msg} at column {error.colno}") from error
    except RecursionError:
        raise DataError(f"{place}: JSON may be nested {MAX_NESTING} deep, this is deeper") from None
    except ValueError as error:
        raise DataError(f"{place}: {error}") from None
    # Counting brackets is fast and mostly enough.
    if text.count("[") + text.count("{") > MAX_NESTING and nesting(value) > MAX_NESTING:
        raise DataError(f"{place}: JSON may be nested {MAX_NESTING} deep, this is deeper")
    return value


def _bounded_int(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"numbers may have {_MAX_DIGITS} digits, got one of {len(digits)}")
    return int(digits)


def _bounded_lines(handle: BinaryIO, path: Path) -> Iterator[bytes]:
    line = 0
    while raw := handle.readline(MAX_LINE_BYTES + 1):
        line += 1
        if len(raw) > MAX_LINE_BYTES:
            raise DataError(f"{named(path)}:{line}: a line may have {MAX_LINE_BYTES >> 20} MiB, this is longer")
        yield raw


def unreadable(path: Path, error: Exception) -> DataError:
    """Error for a file that cannot be opened or unpacked."""
    return DataError(f"{named(path)}: cannot be read: {getattr(error, 'strerror', None) or cause(error)}")


def opened(path: Path) -> AbstractContextManager[BinaryIO]:
    """Open a plain or gzipped file, or standard input, for reading; a `DataError` for anything else."""
    if str(path) in _STDIN:
        return nullcontext(_stdin())
    try:
        found = path.stat()
    except ValueError as error:  # a null byte
        raise DataError(f"{named(path)}: cannot be read: {cause(error)}") from error
    # Checked before opening: opening a FIFO blocks.
    if not stat.S_ISREG(found.st_mode) and not is_stream(path):
        what = "a folder" if stat.S_ISDIR(found.st_mode) else "no regular file"
        raise DataError(f"{named(path)}: cannot be read: it is {what}")
    if path.name.endswith(GZIP_SUFFIX):
        return cast(BinaryIO, gzip.open(path, "rb"))  # GzipFile is one in all but name
    return path.open("rb")


def _stdin() -> BinaryIO:
    stream = getattr(sys.stdin, "buffer", None)
    if stream is None:
        raise DataError("-: there is no standard input")
    if stream in _read:
        raise DataError("-: standard input can be read once, so only one option may name it")
    _read.add(stream)
    return cast(BinaryIO, stream)


def _decode(raw: bytes, path: Path, line: int) -> str:
    try:
        text = raw.decode("utf-8-sig" if line == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{named(path)}:{line}: not UTF-8 at byte {error.start + 1} of the line") from error
    return text.rstrip("\r\n")
