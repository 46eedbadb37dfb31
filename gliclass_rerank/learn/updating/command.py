"""Commands `learn`, `versions` and `rollback`: parse, call the library, print."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

if TYPE_CHECKING:
    from gliclass_rerank.learn.updating.gate import Verdict
    from gliclass_rerank.learn.updating.learning import Learned

_REFUSED: Final = 1

_Model = Annotated[Path, typer.Argument(help="Folder that `learn` wrote.")]


def learn(
    log: Annotated[Path, typer.Option("--log", help="Feedback log.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the model's versions; created if missing.")],
    start: Annotated[
        str | None,
        typer.Option("--start", help="Model to start from.  [default: the current version of --out, else the bundled]"),
    ] = None,
    objective: Annotated[
        Literal["listwise", "policy"], typer.Option("--objective", help="Softmax, or policy gradient of nDCG.")
    ] = "listwise",
    propensities: Annotated[
        Literal["estimated", "none"], typer.Option("--propensities", help="Correction of clicks for their places.")
    ] = "estimated",
    epochs: Annotated[float | None, typer.Option("--epochs", help="Passes over the queries.")] = None,
    learning_rate: Annotated[float | None, typer.Option("--learning-rate", help="Peak rate of the layers.")] = None,
    kl_weight: Annotated[float | None, typer.Option("--kl-weight", help="Weight of staying near the start.")] = None,
    held_out: Annotated[float | None, typer.Option("--held-out", help="Share of queries for the gate.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of every random choice.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Use the new version whatever the gate says.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget an unfinished learning.")] = False,
) -> None:
    """Learn from a feedback log; killed, it goes on.

    A new version that is not better on held-out feedback is kept, but not used; the exit code is then 1.
    """
    from gliclass_rerank.learn.updating.learning import learn as run
    from gliclass_rerank.learn.updating.settings import LearnSettings

    numbers = {
        "epochs": epochs,
        "learning_rate": learning_rate,
        "kl_weight": kl_weight,
        "held_out": held_out,
        "seed": seed,
    }
    given = {name: value for name, value in numbers.items() if value is not None}
    settings = LearnSettings(objective=objective, propensities=propensities, **given)  # type: ignore[arg-type] # numbers
    with _Bars() as bars:
        learned = run(log, out=out, start=start, settings=settings, force=force, fresh=fresh, on_progress=bars.show)
    _echo(learned)
    if not learned.is_current:
        for reason in learned.verdict.reasons:
            typer.echo(f"error: refused: {reason}", err=True)
        typer.echo(f"`gliclass-rerank rollback {out} --to {learned.version}` uses it all the same", err=True)
        raise typer.Exit(_REFUSED)


def versions(model: _Model) -> None:
    """List the versions of a model; a star marks the current one."""
    from gliclass_rerank.learn.updating.versions import versions as run

    for version in run(model):
        notes = version.notes
        what = f"{notes['time']}  {notes['signals']} signals  {_verdict_of(notes)}" if notes else "start"
        typer.echo(f"{'*' if version.is_current else ' '} {version.name}  {what}")


def rollback(
    model: _Model,
    to: Annotated[str | None, typer.Option("--to", help="Version.  [default: the one before]")] = None,
) -> None:
    """Go back to an older version of a model, or on to any."""
    from gliclass_rerank.learn.updating.versions import rollback as run

    typer.echo(run(model, to).name)


def _verdict_of(notes: dict[str, object]) -> str:
    verdict = notes.get("verdict")
    is_accepted = isinstance(verdict, dict) and verdict.get("is_accepted")
    return "accepted" if is_accepted else "forced" if notes.get("is_forced") else "refused"


def _echo(learned: Learned) -> None:
    typer.echo(f"trained on  {learned.num_queries} queries ({learned.num_signals} signals in all)")
    typer.echo(f"position    looked at as 1 / place^{learned.decay:.2f}")
    _echo_verdict(learned.verdict)
    typer.echo(f"version     {learned.version}{' (current)' if learned.is_current else ''}: {learned.model}")


def _echo_verdict(verdict: Verdict) -> None:
    for each in verdict.comparisons:
        bounds = f"[{each.low:+.4f}, {each.high:+.4f}]"
        typer.echo(f"{each.name:28} {each.num_queries:5}  {each.old:.4f} -> {each.new:.4f}  {bounds}")


class _Bars:
    """A progress bar for each stage, on stderr."""

    def __init__(self) -> None:
        self._stage = ""
        self._update: Callable[[int], object] = lambda _: None
        self._close: Callable[[], object] = lambda: None

    def __enter__(self) -> _Bars:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def show(self, stage: str, done: int, total: int) -> None:
        """Display the progress of a stage."""
        if stage != self._stage:
            self._close()
            self._stage, self._update, self._close = stage, *_bar(stage, total)
        self._update(done)


def _bar(stage: str, total: int) -> tuple[Callable[[int], object], Callable[[], object]]:
    from tqdm import tqdm

    bar = tqdm(total=total, desc=stage, file=sys.stderr, disable=None, leave=False)

    def update(done: int) -> None:
        bar.update(done - bar.n)

    return update, bar.close
