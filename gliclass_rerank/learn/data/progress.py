"""How long work reports how far it is: a function from a stage to a counter that is advanced."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from tqdm import tqdm

Advance = Callable[[int], object]


class Progress(Protocol):
    """Opens a stage of the work."""

    def __call__(self, stage: str, total: int, done: int = 0) -> AbstractContextManager[Advance]:
        """Open a stage.

        Args:
            stage: What is counted, such as `pairs`.
            total: How many there are.
            done: How many of them an earlier run has done.

        Returns:
            A context whose value is called with the number of items that were finished since the last call.
        """
        ...


@contextmanager
def silent(stage: str, total: int, done: int = 0) -> Iterator[Advance]:  # noqa: ARG001 # the protocol's signature
    """Report nothing.

    Args:
        stage: As in `Progress`.
        total: As in `Progress`.
        done: As in `Progress`.

    Yields:
        A function that does nothing.
    """
    yield lambda count: count


@contextmanager
def terminal(stage: str, total: int, done: int = 0) -> Iterator[Advance]:
    """Show a bar with the time left on stderr; nothing where that is not a terminal.

    Args:
        stage: As in `Progress`.
        total: As in `Progress`.
        done: As in `Progress`.

    Yields:
        A function that advances the bar.
    """
    with tqdm(total=total, initial=done, unit=f" {stage}", file=sys.stderr, disable=None, leave=False) as bar:
        yield bar.update
