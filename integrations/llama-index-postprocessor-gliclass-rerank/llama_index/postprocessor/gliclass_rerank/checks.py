"""Refusals of odd values: whatever a caller's object does when it is looked at, one short sentence comes of it.

The adapters share no package but the core, and use its public names only: each has this file, and a test compares them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from gliclass_rerank import GLiClassRerankError, InputError

_MAX_SHOWN: Final = 80
_Kind = TypeVar("_Kind")


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Look at an object of the caller's: what it raises is an `InputError`.

    Args:
        name: What is read, for the message.

    Raises:
        InputError: It raised something.
    """
    try:
        yield
    except GLiClassRerankError:
        raise
    except Exception as error:
        raise InputError(f"{name} cannot be read: {type(error).__name__}: {_written(str, error)}") from error


def checked_items(name: str, values: Iterable[Any], kind: type[_Kind]) -> list[_Kind]:  # Any: checked here
    """A list of the framework's own objects, as a list of the adapter's own.

    Args:
        name: The argument, for the message.
        values: What was passed.
        kind: What each must be.

    Returns:
        The objects.

    Raises:
        InputError: No list of them.
    """
    if isinstance(values, (str, bytes, kind)) or not isinstance(values, Iterable):
        raise InputError(f"`{name}` must be a list of {name}, got {shown(values)}")
    with reading(f"`{name}`"):
        items = list(values)
    for index, item in enumerate(items):
        if not isinstance(item, kind):
            raise InputError(f"`{name}[{index}]` must be a `{kind.__name__}`, got {shown(item)}")
    return items


def shown(value: object) -> str:
    """A value for a message: its repr on one line, at most 80 characters, cut in the middle."""
    return _written(repr, value)


def _written(write: Callable[[object], str], value: object) -> str:
    try:
        text = " ".join(write(value).split())
    except Exception:  # noqa: BLE001 - it is other people's code
        text = f"<{type(value).__name__}>"
    return text if len(text) <= _MAX_SHOWN else f"{text[:39]}\N{HORIZONTAL ELLIPSIS}{text[-40:]}"
