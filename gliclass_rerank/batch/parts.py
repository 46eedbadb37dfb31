"""Parts of a job's input, and the interface of a file format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, NamedTuple

from gliclass_rerank.batch.rows import RowRanker

MAX_PART_ROWS: Final = 4096


class Rows(ABC):
    """Rows of a part; can be sent to another process."""

    @property
    @abstractmethod
    def num_rows(self) -> int:
        """Number of rows."""

    @abstractmethod
    def ranked(self, ranker: RowRanker) -> bytes:
        """Rank the rows; content of a file with one row for each, in order."""


@dataclass(frozen=True)
class Part:
    """Rows that are ranked and stored together.

    Attributes:
        number: Place among all parts, from 0.
        num_rows: Number of rows.
        rows: The rows; None if they are stored already.
    """

    number: int
    num_rows: int
    rows: Rows | None


class Count(NamedTuple):
    """Rows of a file, and those of them with an error."""

    rows: int
    failed: int


class Format(ABC):
    """Format of input and output.

    Attributes:
        suffix: End of the files' names.
    """

    suffix: ClassVar[str]

    @abstractmethod
    def num_rows(self) -> int | None:
        """Rows of the input; None if counting them would take as long as reading them."""

    @abstractmethod
    def parts(self, is_stored: Callable[[int], bool]) -> Iterator[Part]:
        """Parts of the input, the same ones each time.

        Args:
            is_stored: Test of a part's number; the rows of such a part are not read.

        Yields:
            The parts in order.

        Raises:
            DataError: A file cannot be read.
        """

    @abstractmethod
    def count(self, path: Path) -> Count:
        """Count the rows of an output."""

    @abstractmethod
    def join(self, paths: Sequence[Path], target: Path) -> None:
        """Write the rows of several outputs into one."""
