"""Option `--where`: conditions on the metadata of judged examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import typer

from gliclass_rerank.errors import InputError, shown

Where = Annotated[
    list[str] | None,
    typer.Option("--where", metavar="KEY=VALUE", help="Required metadata of judged examples. Repeatable."),
]


def condition(where: Sequence[str] | None) -> Callable[[Mapping[str, Any]], bool] | None:  # Any: JSON
    """Test of metadata by the text of its values; None without any condition."""
    wanted = {}
    for pair in where or ():
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise InputError(f"`--where` must be KEY=VALUE, got {shown(pair)}")
        wanted[key] = value
    if not wanted:
        return None
    return lambda metadata: all(key in metadata and str(metadata[key]) == value for key, value in wanted.items())
