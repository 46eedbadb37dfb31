"""Plots of a report, as points for inline SVG; what draws them is the template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from gliclass_rerank.learn.report.comparing import TOP, Gain, Interval, Reranked

WIDTH: Final = 440
MARGIN: Final = 24
_ROOM: Final = WIDTH - 2 * MARGIN
_BINS: Final = 20
_MOST_BARS: Final = 120
_HALF: Final = 70


@dataclass(frozen=True)
class Bar:
    """Rectangle with a tooltip."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    title: str


@dataclass(frozen=True)
class Plot:
    """Bars over an axis.

    Attributes:
        height: Height; the width is `WIDTH`.
        bars: Bars.
        ticks: Place and words on the axis below.
        base: Height of the line that bars stand on.
    """

    height: float
    bars: tuple[Bar, ...]
    ticks: tuple[tuple[float, str], ...]
    base: float


def milliseconds(value: float) -> str:
    """Time for readers, with two digits or so."""
    return f"{value / 1000:.1f} s" if value >= 1000 else f"{value:.0f} ms" if value >= 10 else f"{value:.1f} ms"


def place(value: float) -> float:
    """Horizontal place of a share in [0, 1]."""
    return round(MARGIN + value * _ROOM, 1)


def spread(interval: Interval) -> tuple[float, float, float]:
    """Places of an interval's mean and bounds."""
    return place(interval.mean), place(interval.low), place(interval.high)


def differences(gained: Gain, texts: dict[str, str]) -> Plot:
    """Difference of nDCG@10 query by query, the largest gain first; of many queries, evenly spaced ones."""
    ordered = sorted(gained.by_query.items(), key=lambda item: item[1][0] - item[1][1])
    kept = [ordered[index] for index in np.linspace(0, len(ordered) - 1, min(len(ordered), _MOST_BARS)).astype(int)]
    step, most = _ROOM / len(kept), max(1e-9, *(abs(after - before) for _, (before, after) in kept))
    bars = []
    for number, (name, (before, after)) in enumerate(kept):
        change = after - before
        height = max(round(abs(change) / most * _HALF, 1), 1.0)
        kind = "up" if change > 0 else "down" if change < 0 else "same"
        top = _HALF + 10 - height if change >= 0 else _HALF + 10
        title = f"{texts[name][:80]}: {before:.2f} → {after:.2f}"
        bars.append(
            Bar(round(MARGIN + number * step, 1), round(top, 1), round(max(step - 1, 0.6), 1), height, kind, title)
        )
    best, worst = (after - before for _, (before, after) in (kept[0], kept[-1]))
    ticks = ((float(MARGIN), f"best {best:+.2f}"), (float(WIDTH - MARGIN), f"worst {worst:+.2f}"))
    return Plot(height=2 * _HALF + 50, bars=tuple(bars), ticks=ticks, base=_HALF + 10)


def origins(lists: Sequence[Reranked]) -> Plot:
    """Former ranks of the documents that are among the best now."""
    edges = [0, 1, 3, 5, 10, 20, 50, 100, 10**9]
    found = [origin for each in lists for origin in each.origins[:TOP]]
    counts = [sum(low <= origin < high for origin in found) for low, high in pairwise(edges)]
    shown = max((number for number, count in enumerate(counts) if count), default=0) + 1
    names = ["1", "2-3", "4-5", "6-10", "11-20", "21-50", "51-100", "101-"][:shown]
    return _columns(counts[:shown], names, f"of {len(found)} passages", kinds=["same"] * 4 + ["up"] * 4)


def latencies(lists: Sequence[Reranked]) -> Plot:
    """Histogram of the time a query takes, in milliseconds; the slowest hundredth is in the last column."""
    times = np.array([each.seconds * 1000 for each in lists])
    top = float(np.percentile(times, 99)) if len(times) > 1 else float(times[0])
    low = float(times.min())
    bins = min(_BINS, max(1, len(times)))
    counts, edges = np.histogram(np.minimum(times, top), bins=bins, range=(low, max(top, low + 1e-6)))
    names = [milliseconds(edge) if number % max(1, bins // 4) == 0 else "" for number, edge in enumerate(edges[:-1])]
    return _columns(counts.tolist(), names, f"of {len(times)} queries", kinds=["plain"] * bins)


def _columns(counts: Sequence[int], names: Sequence[str], of: str, kinds: Sequence[str]) -> Plot:
    step = _ROOM / len(counts)
    most = max(counts) or 1
    bars = tuple(
        Bar(
            x=round(MARGIN + number * step + 1, 1),
            y=round(130 - 110 * count / most, 1),
            width=round(step - 2, 1),
            height=round(110 * count / most, 1),
            kind=kinds[number],
            title=f"{names[number]}: {count} {of}".lstrip(": "),
        )
        for number, count in enumerate(counts)
    )
    ticks = tuple((round(MARGIN + (number + 0.5) * step, 1), name) for number, name in enumerate(names) if name)
    return Plot(height=160, bars=bars, ticks=ticks, base=130)
