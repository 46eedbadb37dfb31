"""Command `evaluate`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gliclass_rerank.cli.model_options import load_reranker, with_options
from gliclass_rerank.cli.output import AsJson, note, print_json, progress
from gliclass_rerank.settings import RerankerSettings

if TYPE_CHECKING:
    from gliclass_rerank import Reranker
    from gliclass_rerank.learn.evaluation.collection import Collection
    from gliclass_rerank.learn.evaluation.ranking import Report


# Judgements of the very queries would give the answers away.
@with_options(RerankerSettings, but=("allow_same_text",))
def evaluate(
    settings: RerankerSettings,
    data: Annotated[Path, typer.Option("--data", help="Folder of the collection, such as one of BEIR.")],
    split: Annotated[str, typer.Option("--split", help="Split to evaluate.")] = "test",
    qrels: Annotated[
        Path | None, typer.Option("--qrels", help="Judgments.  [default: qrels.SPLIT.tsv, else qrels/SPLIT.tsv]")
    ] = None,
    candidates: Annotated[
        Path | None,
        typer.Option(
            "--candidates", help="Candidates.  [default: candidates.jsonl, bm25_top100.SPLIT.jsonl, else BM25's]"
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Evaluate the first N queries only.")] = None,
    run_out: Annotated[Path | None, typer.Option("--run-out", help="Write the ranking here, as a TREC run.")] = None,
    as_json: AsJson = False,
) -> None:
    """Rerank a collection's candidates; measure before and after."""
    from gliclass_rerank.learn.evaluation.collection import load_collection
    from gliclass_rerank.learn.evaluation.trec import check_run_path, write_run

    if run_out is not None:
        check_run_path(run_out)
    collection = load_collection(data, split, qrels=qrels, candidates=candidates, limit=limit)
    if not collection.has_own_candidates:
        note("the collection lists no candidates; BM25 found up to 100 for each query")
    reranker = load_reranker(replace(settings, allow_same_text=False))
    report = _reranked(collection, reranker)
    if run_out is not None:
        write_run(run_out, report.run)
    if as_json:
        print_json(_report_fields(report, reranker.name))
    else:
        _print_report(report, reranker.name)


def _reranked(collection: Collection, reranker: Reranker) -> Report:
    from gliclass_rerank.learn.evaluation.ranking import rerank_collection

    def rank(query: str, passages: Sequence[str]) -> list[int]:
        return [hit.index for hit in reranker.rank(query, passages)]

    with progress(collection.num_candidates, "passages") as update:
        return rerank_collection(collection, rank, on_ranked=update)


def _report_fields(report: Report, model: str) -> dict[str, Any]:
    return {
        "first_stage": report.first_stage.to_dict(),
        "reranked": report.reranked.to_dict(),
        "queries": report.num_queries,
        "passages": report.num_passages,
        "passages_per_second": report.passages_per_second,
        "model": model,
    }


def _print_report(report: Report, model: str) -> None:
    before, after = report.first_stage, report.reranked
    typer.echo(f"nDCG@10     {before.ndcg_at_10:.4f} -> {after.ndcg_at_10:.4f}")
    typer.echo(f"MRR@10      {before.mrr_at_10:.4f} -> {after.mrr_at_10:.4f}")
    typer.echo(f"queries     {report.num_queries}")
    typer.echo(f"passages    {report.num_passages}")
    typer.echo(f"passages/s  {report.passages_per_second:.1f}")
    typer.echo(f"model       {model}")
