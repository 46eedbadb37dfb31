"""Report as one HTML file without scripts, which fetches nothing."""

from __future__ import annotations

import datetime as dt
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from gliclass_rerank._imports import require
from gliclass_rerank.files.atomic_write import atomic_file
from gliclass_rerank.learn.report.facts import Comparison
from gliclass_rerank.learn.report.plots import MARGIN, WIDTH, milliseconds, place, spread

VerdictKind = Literal["up", "same", "down"]

_ASSETS: Final = Path(__file__).parent / "assets"


@dataclass(frozen=True)
class About:
    """Facts of a report: model and collection.

    Attributes:
        model: Name of the model.
        runtime: Its backend, precision and device.
        threads: Threads it computed with.
        num_queries: Queries.
        num_documents: Documents.
        judged: Judged queries, in words; empty without judgements.
    """

    model: str
    runtime: str
    threads: int
    num_queries: int
    num_documents: int
    judged: str


@dataclass(frozen=True)
class Verdict:
    """Answer to the question, with its colour."""

    kind: VerdictKind
    sentence: str


def write_report(path: Path, about: About, comparisons: Sequence[Comparison]) -> None:
    """Write a report atomically.

    Args:
        path: Target, replaced if it exists.
        about: What was compared.
        comparisons: One for each retriever.

    Raises:
        MissingDependencyError: `jinja2` is not installed.
        OSError: The file cannot be written.
    """
    html = report_html(about, comparisons)
    with atomic_file(path) as staging:
        staging.write_text(html, encoding="utf-8", errors="replace")


def report_html(about: About, comparisons: Sequence[Comparison]) -> str:
    """Report as HTML.

    Args:
        about: What was compared.
        comparisons: One for each retriever.

    Returns:
        The page.

    Raises:
        MissingDependencyError: `jinja2` is not installed.
    """
    jinja2 = require("jinja2", extra="eval")
    # Texts are escaped wherever they stand; the style is our own.
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(_ASSETS), autoescape=True)
    html: str = environment.get_template("report.html").render(
        title=about.model,
        style=_style(),
        comparisons=comparisons,
        verdicts=[verdict(each) for each in comparisons],
        machine=f"{platform.machine()} {platform.system()}, Python {platform.python_version()}",
        date=dt.date.today().isoformat(),
        width=WIDTH,
        margin=MARGIN,
        place=place,
        spread=spread,
        ms=milliseconds,
        **vars(about),
    )
    return html


def verdict(each: Comparison) -> Verdict:
    """Say whether reranking was worth its delay, as far as can be told."""
    cost = f"{milliseconds(each.median_ms)} a query"
    gained = each.gain
    if gained is None:
        return Verdict(
            "same",
            f"It changes the first result of {1 - each.kept_first:.0%} of the queries for {cost}. Whether that is "
            "better, only judgements or clicks can tell.",
        )
    numbers = f"nDCG@10 goes from {gained.before.mean:.3f} to {gained.after.mean:.3f} for {cost}"
    bounds = f"95 % interval of the difference {gained.difference.low:+.3f} to {gained.difference.high:+.3f}"
    if gained.difference.low > 0:
        return Verdict("up", f"Better: {numbers} ({bounds}).")
    if gained.difference.high < 0:
        return Verdict("down", f"Worse: {numbers} ({bounds}).")
    return Verdict("same", f"No difference that {len(gained.by_query)} judged queries can show: {numbers} ({bounds}).")


def style_text() -> str:
    """Style sheet of a report, as it stands in the page."""
    return (_ASSETS / "report.css").read_text(encoding="utf-8")


def _style() -> str:
    style: str = require("markupsafe", extra="eval").Markup(style_text())
    return style
