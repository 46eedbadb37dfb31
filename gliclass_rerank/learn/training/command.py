"""Commands `train`, `average`, `calibrate` and `cascade`: parse, call the library, print."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from gliclass_rerank.learn.training.judged import ScoreFigures
    from gliclass_rerank.learn.training.records import ClassificationRecord
    from gliclass_rerank.learn.training.reports import Report

_SECONDS_BETWEEN_LINES = 30.0

_Dtype = Annotated[
    Literal["float32", "float16", "int8"],
    typer.Option("--dtype", help="Precision of the file; int8 is a quarter of float32, and ours alone to read."),
]


def train(
    config: Annotated[Path, typer.Argument(help="YAML file; see docs/guide/training.md.")],
    minutes: Annotated[
        float | None, typer.Option("--minutes", help="Stop after N minutes; the same command resumes.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete the run in the output folder and start over.")] = False,
) -> None:
    """Train a model, resuming a run that was stopped or killed."""
    from gliclass_rerank.learn.training.config import TrainConfig
    from gliclass_rerank.learn.training.trainer import train as run

    settings = TrainConfig.read(config)
    with _Display() as display:
        outcome = run(settings, minutes=minutes, fresh=fresh, on_report=display.show)
    progress = outcome.progress
    typer.echo(f"steps       {progress.step} of {outcome.num_steps}{', stopped early' * progress.stopped_early}")
    typer.echo(f"tokens      {progress.num_tokens} ({progress.num_padded} with padding)")
    typer.echo(f"tokens/s    {progress.num_tokens / max(progress.seconds, 1e-9):.0f}")
    if progress.best_figure is not None:
        typer.echo(f"best        {progress.best_figure:.4f} at step {progress.best_step}: {settings.output / 'best'}")
    typer.echo(f"last        {settings.output / 'last'}")
    if not outcome.is_finished:
        typer.echo("not finished: the same command goes on", err=True)


def average(
    target: Annotated[Path, typer.Argument(help="Folder to write; must not exist.")],
    checkpoints: Annotated[list[Path], typer.Argument(help="Checkpoint folders of one config.")],
    weights: Annotated[
        list[float] | None, typer.Option("--weight", help="Weight of each checkpoint, in order.  [default: equal]")
    ] = None,
    dtype: _Dtype = "float32",
) -> None:
    """Average the weights of checkpoints."""
    import torch

    from gliclass_rerank.learn.training.averaging import average as run

    run(checkpoints, target, weights=weights or None, weights_dtype=getattr(torch, dtype))
    typer.echo(str(target))


def calibrate(
    target: Annotated[Path, typer.Argument(help="Folder to write; must not exist.")],
    model: Annotated[str, typer.Argument(help="Checkpoint folder or bundled model.")],
    data: Annotated[
        list[str],
        typer.Option("--data", metavar="DIR[:SPLIT]", help="Judged collection, such as a dev set. Repeatable."),
    ],
    labels: Annotated[
        list[Path] | None,
        typer.Option("--labels", help="JSONL file of labelled texts, to calibrate labels on too. Repeatable."),
    ] = None,
    split: Annotated[str, typer.Option("--split", help="Split of collections given without one.")] = "dev",
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="First N queries of each only.")] = None,
    relevant_share: Annotated[
        float | None,
        typer.Option(
            "--relevant-share",
            min=0.01,
            max=0.99,
            help="Share of relevant candidates in each collection.  [default: the judgments']",
        ),
    ] = None,
    dtype: _Dtype = "float32",
) -> None:
    """Calibrate scores and `answerable` on judged passages."""
    import torch
    from tqdm import tqdm

    from gliclass_rerank.learn.evaluation.collection import folder_and_split, load_collection
    from gliclass_rerank.learn.training.calibrating import calibrate as run

    collections = [
        load_collection(*folder_and_split(text, split), limit=limit, with_unanswerable=True) for text in data
    ]
    num_passages = sum(collection.num_candidates for collection in collections)
    with tqdm(total=num_passages, unit=" passages", file=sys.stderr, disable=None, leave=False) as bar:
        report = run(
            model,
            collections,
            target,
            labels={path.parent.name: _spread_records(path, limit) for path in labels or ()},
            relevant_share=relevant_share,
            weights_dtype=getattr(torch, dtype),
            on_ranked=bar.update,
        )
    _echo_figures("score", {**report.figures, "all": report.overall})
    _echo_figures("answerable", report.answerable_figures)
    _echo_figures("label", report.label_figures)
    typer.echo("(on queries left out of the fit; precision and recall at 0.5)")
    typer.echo(f"slope       {report.score[0]:.4f}")
    typer.echo(f"intercept   {report.score[1]:.4f}")
    typer.echo(f"written     {target}")


def _spread_records(path: Path, limit: int | None) -> list[ClassificationRecord]:
    from gliclass_rerank.learn.data.labelled import open_labelled
    from gliclass_rerank.learn.evaluation.collection import spread

    records = open_labelled(path, "classification")
    return [records[position].record for position in spread(len(records), limit)]  # type: ignore[misc] # of this kind


def _echo_figures(title: str, figures: Mapping[str, ScoreFigures]) -> None:
    if not figures:
        return
    typer.echo(f"{title:20} {'queries':>8} {'ECE':>15} {'precision':>10} {'recall':>7} {'AUROC':>6}")
    for name, each in figures.items():
        errors = f"{each.error_before:.3f} -> {each.error_after:.3f}"
        rates = f"{each.precision:10.3f} {each.recall:7.3f} {each.area:6.3f}"
        typer.echo(f"{name[:20]:20} {each.num_queries:8} {errors:>15} {rates}")


def cascade(
    target: Annotated[Path, typer.Argument(help="Folder to write; must not exist.")],
    first: Annotated[str, typer.Option("--first", help="Model for every passage: a folder or bundled model.")],
    second: Annotated[str, typer.Option("--second", help="Model for the best passages: likewise.")],
    rerank_depth: Annotated[int, typer.Option("--refined", min=1, help="Passages for the second model.")] = 20,
    first_weight: Annotated[
        float, typer.Option("--first-share", min=0, max=1, help="Weight of the first model in their logits.")
    ] = 0.5,
    first_weight_with_examples: Annotated[
        float | None,
        typer.Option("--first-share-with-examples", min=0, max=1, help="Weight of the first model with examples."),
    ] = None,
    sure_bonus: Annotated[
        tuple[float, float] | None,
        typer.Option("--sure-bonus", help="Bonus by the second model's logit: slope and intercept, where above 0."),
    ] = None,
    first_passage_tokens: Annotated[
        int | None, typer.Option("--first-passage-tokens", min=1, help="Passage limit of the first model.")
    ] = None,
    first_reads_examples: Annotated[bool, typer.Option(help="Show judged examples to the first model too.")] = True,
    max_query_tokens: Annotated[
        int | None, typer.Option("--max-query-tokens", min=1, help="Longer queries are left to the first model.")
    ] = None,
) -> None:
    """Join two models: the second rescores the first one's best."""
    from gliclass_rerank.cascade import CascadeConfig, save_cascade
    from gliclass_rerank.checkpoint.location import bundled_folder, locate

    folders = {"first": locate(first), "second": locate(second)}
    # Bundled models are named, not copied.
    parts = {part: folder for part, folder in folders.items() if folder.parent != bundled_folder().parent}
    names = {part: part if part in parts else folder.name for part, folder in folders.items()}
    config = CascadeConfig(
        first=names["first"],
        second=names["second"],
        rerank_depth=rerank_depth,
        first_weight=first_weight,
        first_weight_with_examples=first_weight_with_examples,
        sure_bonus=sure_bonus,
        first_passage_tokens=first_passage_tokens,
        first_reads_examples=first_reads_examples,
        max_query_tokens=max_query_tokens,
    )
    save_cascade(config, target, parts)
    typer.echo(f"written     {target}")


class _Display:
    """Progress bar on a terminal, else occasional lines; on stderr."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._next_line = 0.0

    def __enter__(self) -> _Display:
        from tqdm import tqdm

        # Our own estimate: a resumed bar does not start at 0, and evaluations take time too.
        bar_format = "{percentage:3.0f}%|{bar:20}| {n_fmt}/{total_fmt} steps{postfix}"
        self._bar = tqdm(total=0, file=sys.stderr, disable=not self._is_terminal, leave=False, bar_format=bar_format)
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def show(self, report: Report) -> None:
        """Display a step or an evaluation."""
        pace = f"{report.tokens_per_second:.0f} tokens/s ({report.padded_tokens_per_second:.0f} with padding)"
        left = f"{_clock(report.seconds_left)} left"
        if report.figures:
            figures = "  ".join(f"{name} {value:.4f}" for name, value in report.figures.items())
            self._bar.write(f"step {report.step}/{report.num_steps}  {figures}", file=sys.stderr)
            return
        self._bar.total, self._bar.n = report.num_steps, report.step
        self._bar.set_postfix_str(f"loss {report.loss:.4f}, {pace}, {left}")
        if not self._is_terminal and time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + _SECONDS_BETWEEN_LINES
            typer.echo(f"step {report.step}/{report.num_steps}  loss {report.loss:.4f}  {pace}  {left}", err=True)


def _clock(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
