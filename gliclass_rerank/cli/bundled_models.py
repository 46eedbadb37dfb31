"""Command `models`: what is bundled.

Figures come from `bundled/measured.json`, which `make docs-tables` writes from the results of the benchmarks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from gliclass_rerank.cli.output import print_columns, print_json

_MEASURED: Final = "measured.json"
_MEBI: Final = 1 << 20


def models(
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object for each model.")] = False,
) -> None:
    """List the bundled models with size, quality and speed."""
    from gliclass_rerank.checkpoint.location import CONFIG, DEFAULT_RANKER, bundled_folder

    place = bundled_folder().parent
    measured = json.loads((place / _MEASURED).read_text(encoding="utf-8"))
    names = sorted(
        (folder.parent.name for folder in place.glob(f"*/{CONFIG}")), key=lambda name: name != DEFAULT_RANKER
    )
    rows = [
        {
            "model": name,
            "is_default": name == DEFAULT_RANKER,
            "bytes": _size(place / name),
            "ndcg@10": measured["ndcg@10"].get(name, {}),
            "passages_per_second": measured["passages_per_second"].get(name, {}),
        }
        for name in names
    ]
    if as_json:
        for row in rows:
            print_json(row)
        return
    typer.echo("nDCG@10")
    print_columns([*_table(rows, "ndcg@10", "{:.3f}", with_size=True)])
    typer.echo(f"\npassages/s on {measured['machine']}")
    print_columns([*_table(rows, "passages_per_second", "{:.0f}", with_size=False)])


def _table(rows: list[dict[str, Any]], key: str, form: str, *, with_size: bool) -> Iterator[list[str]]:  # Any: JSON
    columns = list(dict.fromkeys(column for row in rows for column in row[key]))
    yield ["model", *["size"] * with_size, *columns]
    for row in rows:
        name = row["model"] + " (default)" * row["is_default"]
        size = [f"{row['bytes'] / _MEBI:.0f} MiB"] * with_size
        yield [name, *size, *(form.format(row[key][column]) if column in row[key] else "" for column in columns)]


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
