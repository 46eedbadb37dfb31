"""Progress callbacks of long work."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from tqdm import tqdm

Advance = Callable[[int], object]


class Progress(Protocol):
    """Factory of progress stages."""

    def __call__(self, stage: str, total: int, done: int = 0) -> AbstractContextManager[Advance]:
        """Open a stage.

        Args:
            stage: Unit of counting, such as `pairs`.
            total: Total number.
            done: Number done by an earlier run.

        Returns:
            Context whose value takes the number of items finished since the last call.
        """
        ...


@contextmanager
def silent(stage: str, total: int, done: int = 0) -> Iterator[Advance]:  # noqa: ARG001 # the protocol's signature
    """Report nothing."""
    yield lambda count: count


@contextmanager
def terminal(stage: str, total: int, done: int = 0) -> Iterator[Advance]:
    """Show a progress bar on stderr, if it is a terminal."""
    with tqdm(total=total, initial=done, unit=f" {stage}", file=sys.stderr, disable=None, leave=False) as bar:
        yield bar.update
