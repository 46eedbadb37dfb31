"""Command `batch`: a file or folder of queries with their passages."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from gliclass_rerank.batch.settings import BatchSettings
from gliclass_rerank.cli.conditions import Where, condition
from gliclass_rerank.cli.model_options import load_reranker, with_options
from gliclass_rerank.cli.output import note, progress
from gliclass_rerank.settings import RerankerSettings

if TYPE_CHECKING:
    from gliclass_rerank.batch.rows import RowRanker
    from gliclass_rerank.batch.run import RankParts

_INPUT_HELP: Final = ".jsonl, .jsonl.gz or .parquet with `query` and `passages`; or a folder of such files."
_OUTPUT_HELP: Final = "File of the same kind; without an ending, a folder of files."
# Between notes where there is no terminal for a bar.
_NOTE_EVERY_S: Final = 60.0


@with_options(BatchSettings)
@with_options(RerankerSettings)
def batch(
    reranker: RerankerSettings,
    settings: BatchSettings,
    inputs: Annotated[Path, typer.Option("--input", help=_INPUT_HELP)],
    output: Annotated[Path, typer.Option("--output", help=_OUTPUT_HELP)],
    where: Where = None,
) -> None:
    """Rank a file of queries with their passages; restartable."""
    from gliclass_rerank.batch.run import run_job

    condition(where)  # an error before anything is read
    with ExitStack() as stack:
        rows = _Progress(stack)
        try:
            rank_parts = _rank_parts(settings, reranker, where)
            count = run_job(inputs, output, settings, reranker, where or (), rank_parts, progress=rows.begin)
        except KeyboardInterrupt:
            note(f"stopped after {rows.done:,} rows; the same command goes on from there")
            raise
    note(f"{count.rows:,} rows in {output}")
    if count.failed:
        note(f"{count.failed:,} of them could not be ranked; their `error` says why")
        raise typer.Exit(1)


def _rank_parts(settings: BatchSettings, reranker: RerankerSettings, where: list[str] | None) -> RankParts:
    from gliclass_rerank.batch.run import rank_here

    if settings.ray is not None:
        from gliclass_rerank.ray.workers import rank_on_cluster

        return rank_on_cluster(settings, reranker, where or ())

    def load() -> RowRanker:
        from gliclass_rerank.batch.rows import RowRanker

        loaded = load_reranker(reranker)
        return RowRanker(loaded, top_k=settings.top_k, where=condition(where), has_texts=settings.texts)

    return rank_here(load)


class _Progress:
    """Bar on a terminal, a note a minute elsewhere."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.done = 0

    def begin(self, total: int | None) -> Callable[[int], object]:
        show, of = self._stack.enter_context(progress(total, "rows")), "" if total is None else f" of {total:,}"
        began = noted = time.monotonic()

        def update(count: int) -> None:
            nonlocal noted
            self.done += count
            show(count)
            now = time.monotonic()
            if not sys.stderr.isatty() and now - noted >= _NOTE_EVERY_S:
                note(f"{self.done:,}{of} rows after {(now - began) / 60:.0f} minutes")
                noted = now

        return update
