"""JSONL: a row a line. A line that is no JSON object is a row with an error."""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from gliclass_rerank.batch.parts import MAX_PART_ROWS, Count, Format, Part, Rows
from gliclass_rerank.batch.rows import RowRanker, kept
from gliclass_rerank.checks import named
from gliclass_rerank.errors import DataError
from gliclass_rerank.learn.evaluation.files import GZIP_SUFFIX, MAX_LINE_BYTES, opened, parsed_record, unreadable

# The last column of an answer, as `json.dumps` writes it.
_NO_ERROR: Final = b'"error": null}\n'
_CHUNK: Final = 1 << 20


@dataclass(frozen=True)
class Lines(Rows):
    """Lines of a file.

    Attributes:
        path: The file.
        lines: Number, from 1, and content of each line; None for one that is too long.
    """

    path: Path
    lines: tuple[tuple[int, bytes | None], ...]

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return len(self.lines)

    def ranked(self, ranker: RowRanker) -> bytes:
        """Rank the rows; a line of JSON for each."""
        rows = [self._row(*line) for line in self.lines]
        answers = ranker.answers(rows)
        return "".join(
            json.dumps({**({"query": None} if isinstance(row, str) else kept(row)), **answer}) + "\n"
            for row, answer in zip(rows, answers, strict=True)
        ).encode()

    def _row(self, line: int, raw: bytes | None) -> dict[str, Any] | str:  # Any: JSON
        """Fields of a line, or why it has none."""
        place = f"{named(self.path.name)}:{line}"
        if raw is None:
            return f"{place}: a line may have {MAX_LINE_BYTES >> 20} MiB, this is longer"
        try:
            return dict(
                parsed_record(raw.decode("utf-8-sig" if line == 1 else "utf-8"), Path(self.path.name), line).fields
            )
        except UnicodeDecodeError as error:
            return f"{place}: not UTF-8 at byte {error.start + 1} of the line"
        except DataError as error:
            return str(error)


class JsonlFormat(Format):
    """Files of lines.

    Args:
        paths: The files, plain or gzipped.
        part_bytes: Bytes after which a part ends.
    """

    suffix = ".jsonl"

    def __init__(self, paths: Sequence[Path], part_bytes: int) -> None:
        self._paths = paths
        self._part_bytes = part_bytes

    def num_rows(self) -> int | None:
        """Rows of the input; None if a file is gzipped."""
        if any(path.name.endswith(GZIP_SUFFIX) for path in self._paths):
            return None
        return sum(_num_lines(path) for path in self._paths)

    def parts(self, is_stored: Callable[[int], bool]) -> Iterator[Part]:
        """Parts of the input; see `Format.parts`."""
        number = 0
        for path in self._paths:
            lines, size = list[tuple[int, bytes | None]](), 0
            for line, raw in _lines(path):
                lines.append((line, raw))
                size += len(raw or b"")
                if size >= self._part_bytes or len(lines) == MAX_PART_ROWS:
                    yield _part(number, path, lines, is_stored)
                    number, lines, size = number + 1, [], 0
            if lines:
                yield _part(number, path, lines, is_stored)
                number += 1

    def count(self, path: Path) -> Count:
        """Count the rows of an output."""
        rows = failed = 0
        with path.open("rb") as handle:
            for line in handle:
                rows += 1
                failed += not line.endswith(_NO_ERROR)
        return Count(rows, failed)

    def join(self, paths: Sequence[Path], target: Path) -> None:
        """Write the lines of several outputs into one."""
        with target.open("wb") as joined:
            for path in paths:
                with path.open("rb") as part:
                    shutil.copyfileobj(part, joined, _CHUNK)


def _part(number: int, path: Path, lines: Sequence[tuple[int, bytes | None]], is_stored: Callable[[int], bool]) -> Part:
    return Part(number, len(lines), None if is_stored(number) else Lines(path, tuple(lines)))


def _lines(path: Path) -> Iterator[tuple[int, bytes | None]]:
    """Lines that are not blank; None for one that is too long, which is not kept."""
    try:
        with opened(path) as handle:
            line = 0
            while raw := handle.readline(MAX_LINE_BYTES + 1):
                line += 1
                if len(raw) > MAX_LINE_BYTES:
                    _skip_line(handle, raw)
                    yield line, None
                elif raw.strip():
                    yield line, raw
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(path, error) from error


def _skip_line(handle: BinaryIO, raw: bytes) -> None:
    while raw and not raw.endswith(b"\n"):
        raw = handle.readline(_CHUNK)


def _num_lines(path: Path) -> int:
    """Lines of a plain file, blank ones included."""
    lines, last = 0, b"\n"
    with opened(path) as handle:
        while chunk := handle.read(_CHUNK):
            lines += chunk.count(b"\n")
            last = chunk[-1:]
    return lines + (last != b"\n")
