"""Parquet: parts are slices of row groups."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gliclass_rerank._imports import require
from gliclass_rerank.batch.arrow import check_columns, ranked_table
from gliclass_rerank.batch.parts import MAX_PART_ROWS, Count, Format, Part, Rows
from gliclass_rerank.batch.rows import RowRanker
from gliclass_rerank.checks import named
from gliclass_rerank.errors import DataError, cause

_COMPRESSION: Final = "zstd"
# Read at a time of each column of a row group.
_BUFFER_BYTES: Final = 1 << 20


@dataclass(frozen=True)
class TableRows(Rows):
    """Rows of an Arrow table."""

    table: Any  # Any: Arrow is untyped

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return int(self.table.num_rows)

    def ranked(self, ranker: RowRanker) -> bytes:
        """Rank the rows; a Parquet file."""
        sink = require("pyarrow", extra="batch").BufferOutputStream()
        _parquet().write_table(ranked_table(ranker, self.table), sink, compression=_COMPRESSION)
        return bytes(sink.getvalue())


class ParquetFormat(Format):
    """Parquet files of one schema.

    Args:
        paths: The files.
        part_bytes: Bytes of a part, before compression.

    Raises:
        DataError: A file cannot be read, lacks a column or has another schema than the first.
    """

    suffix = ".parquet"

    def __init__(self, paths: Sequence[Path], part_bytes: int) -> None:
        self._paths = paths
        self._part_bytes = part_bytes
        first = None
        for path in paths:
            with _opened(path) as file:
                check_columns(file.schema_arrow, named(path))
                first = first or file.schema_arrow
                if not file.schema_arrow.equals(first):
                    raise DataError(f"{named(path)}: has another schema than {named(paths[0])}")

    def num_rows(self) -> int | None:
        """Rows of the input."""
        return sum(_num_rows(path) for path in self._paths)

    def parts(self, is_stored: Callable[[int], bool]) -> Iterator[Part]:
        """Parts of the input; see `Format.parts`."""
        number = 0
        for path in self._paths:
            with _opened(path) as file:
                for group in range(file.metadata.num_row_groups):
                    sizes = self._sizes(file.metadata.row_group(group))
                    numbers = range(number, number + len(sizes))
                    number += len(sizes)
                    if all(map(is_stored, numbers)):
                        yield from (Part(each, size, None) for each, size in zip(numbers, sizes, strict=True))
                        continue
                    for each, rows in zip(numbers, _slices(file, group, sizes, path), strict=True):
                        yield Part(each, rows.num_rows, None if is_stored(each) else rows)

    def _sizes(self, group: Any) -> list[int]:
        """Rows of each part of a row group."""
        total = int(group.num_rows)
        step = max(1, min(MAX_PART_ROWS, total * self._part_bytes // max(1, group.total_byte_size)))
        return [min(step, total - start) for start in range(0, total, step)]

    def count(self, path: Path) -> Count:
        """Count the rows of an output."""
        with _opened(path) as file:
            total, failed = int(file.metadata.num_rows), 0
            for batch in file.iter_batches(columns=["error"]):
                failed += len(batch) - batch.column(0).null_count
        return Count(total, failed)

    def join(self, paths: Sequence[Path], target: Path) -> None:
        """Write the rows of several outputs into one."""
        schema = _parquet().read_schema(paths[0])
        with _parquet().ParquetWriter(target, schema, compression=_COMPRESSION) as writer:
            for path in paths:
                writer.write_table(_parquet().read_table(path, partitioning=None))


def _slices(file: Any, group: int, sizes: Sequence[int], path: Path) -> Iterator[TableRows]:
    """Rows of a row group in slices of given sizes, read one after the other."""
    table, batches = None, file.iter_batches(batch_size=max(sizes), row_groups=[group], use_threads=False)
    arrow = require("pyarrow", extra="batch")
    try:
        for size in sizes:
            while table is None or table.num_rows < size:
                new = arrow.Table.from_batches([next(batches)])
                table = new if table is None else arrow.concat_tables([table, new])
            yield TableRows(table.slice(0, size))
            table = table.slice(size)
    except (OSError, arrow.ArrowException) as error:
        raise DataError(f"{named(path)}: cannot be read: {cause(error)}") from error


def _opened(path: Path) -> Any:
    arrow = require("pyarrow", extra="batch")
    try:
        return _parquet().ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER_BYTES)
    except (OSError, arrow.ArrowException) as error:
        raise DataError(f"{named(path)}: cannot be read: {cause(error)}") from error


def _num_rows(path: Path) -> int:
    with _opened(path) as file:
        return int(file.metadata.num_rows)


def _parquet() -> Any:
    return require("pyarrow.parquet", extra="batch")
