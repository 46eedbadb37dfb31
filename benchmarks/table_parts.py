"""Parts of the documents' tables: rows of results files, and Markdown."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]  # Any: JSON
Table = Callable[[Path], str]


def rows_of(results: Path, file: str, /, **wanted: object) -> list[Row]:
    """Rows of a results file that have these values."""
    rows: list[Row] = json.loads((results / file).read_text(encoding="utf-8"))["rows"]
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown, numbers to the right of the first column."""
    rule = "|".join(["---", *["--:"] * (len(head) - 1)])
    return (
        "\n".join([f"| {' | '.join(head).lstrip()} |", f"|{rule}|", *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"
    )


def best_bold(values: Sequence[float | None]) -> list[str]:
    """Three decimals each, the largest in bold."""
    most = max(value for value in values if value is not None)
    texts = ["" if value is None else f"{value:.3f}" for value in values]
    return [f"**{text}**" if value == most else text for value, text in zip(values, texts, strict=True)]
