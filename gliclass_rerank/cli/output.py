"""Output of the commands: results on stdout, notes and progress on stderr."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, Final

import typer

from gliclass_rerank.calls.steps import Token, working

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]

_MIN_TEXT_CHARS: Final = 20
_MOST_LINES: Final = 10
# Before that a bar would only flicker.
_BAR_AFTER_S: Final = 1.0


def print_json(fields: Mapping[str, Any]) -> None:  # JSON
    """Print one JSON object on one line, in ASCII, which every program reads."""
    typer.echo(json.dumps(fields))


def print_row(start: str, text: str) -> None:
    """Print a row that ends with a text, which is cut to the terminal and put on one line."""
    room = max(shutil.get_terminal_size().columns - len(start), _MIN_TEXT_CHARS)
    printable = "".join(char if char.isprintable() else " " for char in text)
    flat = " ".join(printable.split())
    typer.echo(start + (flat if len(flat) <= room else flat[: room - 1].rstrip() + "\N{HORIZONTAL ELLIPSIS}"))


def print_columns(rows: Sequence[Sequence[str]]) -> None:
    """Print rows in columns; the first one to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *rest in rows:
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))]
        typer.echo("  ".join(cells).rstrip())


def note(message: str) -> None:
    """Print a note for the reader."""
    typer.echo(f"note: {message}", err=True)


def note_lines(what: str, lines: Sequence[int]) -> None:
    """Say what was done to the texts of some lines, if there are any."""
    if lines:
        more = f" and {len(lines) - _MOST_LINES} more" if len(lines) > _MOST_LINES else ""
        note(f"{what}: line {', '.join(map(str, lines[:_MOST_LINES]))}{more}")


@contextmanager
def progress(total: int | None, unit: str, *, beside_results: bool = False) -> Iterator[Callable[[int], object]]:
    """Show a progress bar on stderr, if it is a terminal, for work of more than a second.

    Args:
        total: Number of items; None if unknown.
        unit: Their name.
        beside_results: Results are printed meanwhile; then there is no bar where they go to a terminal.

    Yields:
        Function that takes the number of items done since the last call.
    """
    from tqdm import tqdm

    disable = True if beside_results and sys.stdout.isatty() else None  # None: where stderr is no terminal
    with tqdm(total=total, unit=f" {unit}", file=sys.stderr, disable=disable, leave=False, delay=_BAR_AFTER_S) as bar:
        yield bar.update


@contextmanager
def scoring_progress(total: int, unit: str) -> Iterator[None]:
    """Show how many candidates the calls inside the block have scored; a second look at some counts as done."""
    with progress(total, unit) as update:
        left = total

        def scored(count: int) -> None:
            nonlocal left
            count = min(count, left)
            left -= count
            update(count)

        with working(Token(on_scored=scored)):
            yield
