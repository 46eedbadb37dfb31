"""Command `report`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from gliclass_rerank.checks import named
from gliclass_rerank.cli.model_options import load_reranker, with_options
from gliclass_rerank.cli.output import note, progress
from gliclass_rerank.errors import InputError
from gliclass_rerank.settings import RerankerSettings


# Judgements of the very queries would give the answers away; the report has a log of its own to read.
@with_options(RerankerSettings, but=("allow_same_text", "log", "log_texts", "log_days"))
def report(
    settings: RerankerSettings,
    queries: Annotated[Path, typer.Option("--queries", help="Queries: .jsonl, `query` and perhaps `id`; or .txt.")],
    corpus: Annotated[Path, typer.Option("--corpus", help="Documents: .jsonl, .txt, or a folder of texts.")],
    out: Annotated[Path, typer.Option("--out", help="HTML file to write.")] = Path("report.html"),
    run: Annotated[
        Path | None, typer.Option("--run", help="Your retriever's results, as a TREC run; BM25's are beside them.")
    ] = None,
    judgements: Annotated[
        Path | None, typer.Option("--judgements", help="TSV of query id, document id and grade.")
    ] = None,
    log: Annotated[Path | None, typer.Option("--log", help="Feedback log whose clicks and grades count.")] = None,
    depth: Annotated[int, typer.Option("--depth", min=2, help="Documents to rerank for each query.")] = 50,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Take N queries only, evenly spaced.")] = None,
) -> None:
    """Show whether reranking is worth it on your own data."""
    from gliclass_rerank.learn.report.comparing import ranks_of
    from gliclass_rerank.learn.report.making import Sources, about, compare, read_sources
    from gliclass_rerank.learn.report.writing import verdict, write_report

    if judgements is not None and log is not None:
        raise InputError("either `--judgements` or `--log` may be given, got both")
    if not out.parent.is_dir() or out.is_dir():
        raise InputError(f"`--out` must be a file in a folder that exists, got '{named(out)}'")
    sources = Sources(queries=queries, corpus=corpus, run=run, judgements=judgements, log=log)
    material = read_sources(sources, depth=depth, limit=limit)
    reranker = load_reranker(replace(settings, allow_same_text=False))
    with progress(material.num_passages, "passages") as update:
        comparisons = compare(material, ranks_of(reranker), update)
    write_report(out, about(reranker, material, comparisons), comparisons)
    for each in comparisons:
        typer.echo(f"{each.name}: {verdict(each).sentence}")
    note(f"the report is in {named(out)}")
