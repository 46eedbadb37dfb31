"""Conditions on the metadata of judged examples, written as KEY=VALUE."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gliclass_rerank.errors import InputError, shown


def condition(
    where: Sequence[str] | None, *, name: str = "where"
) -> Callable[[Mapping[str, Any]], bool] | None:  # Any: JSON
    """Build a test of metadata by the text of its values.

    Args:
        where: Conditions, all of which must hold.
        name: Name of the argument, for the message.

    Returns:
        The test; None without any condition.

    Raises:
        InputError: A condition is not KEY=VALUE.
    """
    wanted = {}
    for pair in where or ():
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise InputError(f"`{name}` must be KEY=VALUE, got {shown(pair)}")
        wanted[key] = value
    if not wanted:
        return None
    return lambda metadata: all(key in metadata and str(metadata[key]) == value for key, value in wanted.items())
