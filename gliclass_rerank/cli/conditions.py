"""Option `--where`: conditions on the metadata of judged examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import typer

from gliclass_rerank.examples import conditions

Where = Annotated[
    list[str] | None,
    typer.Option("--where", metavar="KEY=VALUE", help="Required metadata of judged examples. Repeatable."),
]


def condition(where: Sequence[str] | None) -> Callable[[Mapping[str, Any]], bool] | None:  # Any: JSON
    """Test of metadata by the text of its values; None without any condition."""
    return conditions.condition(where, name="--where")
