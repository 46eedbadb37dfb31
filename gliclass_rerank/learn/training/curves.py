"""Training journals (CSV) and their plot."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from gliclass_rerank._imports import require
from gliclass_rerank.files.atomic_write import atomic_file

# Steps averaged per point of the smoothed loss curve.
_SMOOTHED_SHARE = 0.05


class Journal:
    """CSV file with one row per step, flushed to disk at once.

    Args:
        path: CSV file.
        columns: Column names; the first one is `step`.
        after: Last step to keep; rows of a killed run beyond its last state are rewritten.
    """

    def __init__(self, path: Path, columns: Sequence[str], *, after: int) -> None:
        self._path, self._columns = path, columns
        kept = [row for row in read_rows(path) if row.keys() == set(columns) and row["step"] <= after]
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(map(_formatted, kept))
        with atomic_file(path) as staging:
            staging.write_text(text.getvalue(), encoding="utf-8")

    def add(self, row: Mapping[str, float]) -> None:
        """Append a row."""
        with self._path.open("a", encoding="utf-8", newline="") as handle:
            csv.DictWriter(handle, self._columns, lineterminator="\n").writerow(_formatted(row))

    def rows(self) -> list[dict[str, float]]:
        """All rows, oldest first."""
        return read_rows(self._path)


def read_rows(path: Path) -> list[dict[str, float]]:
    """Read a journal, which may be missing; a truncated last line is dropped."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as handle:
        rows = map(_numbers, csv.DictReader(handle))
        return [row for row in rows if row is not None]


def _numbers(line: Mapping[str, str]) -> dict[str, float] | None:
    try:
        return {key: float(value) for key, value in line.items()}
    except (TypeError, ValueError):
        return None


def _formatted(row: Mapping[str, float]) -> dict[str, str]:
    return {key: str(value) if isinstance(value, int) else f"{value:.6g}" for key, value in row.items()}


def draw(path: Path, train: Sequence[Mapping[str, float]], dev: Sequence[Mapping[str, float]]) -> None:
    """Draw loss and dev metrics over the steps.

    Args:
        path: PNG, replaced if it exists.
        train: Rows with `step` and `loss`.
        dev: Rows with `step` and one column per metric; may be empty.

    Raises:
        MissingDependencyError: Matplotlib is not installed.
    """
    # The figure class alone: pyplot keeps process-wide state.
    figure = require("matplotlib.figure", extra="train").Figure(figsize=(9, 7 if dev else 3.8), layout="constrained")
    loss, *others = figure.subplots(2 if dev else 1, 1, sharex=True, squeeze=False)[:, 0]
    steps, losses = [row["step"] for row in train], [row["loss"] for row in train]
    loss.plot(steps, losses, linewidth=0.5, alpha=0.4, label="each step")
    loss.plot(steps, _smoothed(losses), label="running mean")
    loss.set_ylabel("loss")
    loss.legend()
    for axes in others:
        for name in [key for key in dev[0] if key not in ("step", "selected")]:
            axes.plot([row["step"] for row in dev], [row[name] for row in dev], marker="o", markersize=3, label=name)
        axes.set_ylabel("dev sets")
        axes.legend()
    [*others, loss][0].set_xlabel("step")
    with atomic_file(path) as staging:
        figure.savefig(staging, format="png", dpi=110)


def _smoothed(values: Sequence[float]) -> list[float]:
    width = max(1, round(len(values) * _SMOOTHED_SHARE))
    sums, total = [], 0.0
    for index, value in enumerate(values):
        total += value - (values[index - width] if index >= width else 0.0)
        sums.append(total / min(index + 1, width))
    return sums
