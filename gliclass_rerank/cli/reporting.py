"""Command `report`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gliclass_rerank.checks import named
from gliclass_rerank.cli.model_options import load_reranker, with_options
from gliclass_rerank.cli.output import note, progress
from gliclass_rerank.errors import DataError, InputError
from gliclass_rerank.settings import RerankerSettings

if TYPE_CHECKING:
    from gliclass_rerank import Reranker
    from gliclass_rerank.learn.evaluation.collection import Qrels
    from gliclass_rerank.learn.evaluation.trec import Run
    from gliclass_rerank.learn.report.facts import Comparison


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
    from gliclass_rerank.learn.evaluation.collection import spread
    from gliclass_rerank.learn.report.comparing import bm25_run
    from gliclass_rerank.learn.report.texts import read_corpus, read_queries

    if judgements is not None and log is not None:
        raise InputError("either `--judgements` or `--log` may be given, got both")
    if not out.parent.is_dir() or out.is_dir():
        raise InputError(f"`--out` must be a file in a folder that exists, got '{named(out)}'")
    asked, documents = read_queries(queries), read_corpus(corpus)
    names = list(asked)
    asked = {names[index]: asked[names[index]] for index in spread(len(names), limit)}
    qrels = _qrels(judgements, log, asked, documents)
    runs: dict[str, Run] = {} if run is None else {run.name: _own_run(run, asked, documents, depth)}
    runs["BM25"] = bm25_run(asked, documents, depth)
    reranker = load_reranker(replace(settings, allow_same_text=False))
    comparisons = _compared(reranker, asked, documents, runs, qrels)
    _write(out, reranker, asked, documents, comparisons)


def _own_run(path: Path, queries: Mapping[str, str], corpus: Mapping[str, str], depth: int) -> Run:
    from gliclass_rerank.learn.evaluation.trec import read_run

    found = read_run(path)
    if not found.keys() & queries.keys():
        raise DataError(f"{named(path)}: has results for none of the {len(queries)} queries")
    kept = {query_id: tuple(name for name in found.get(query_id, ()) if name in corpus) for query_id in queries}
    if not any(kept.values()):
        raise DataError(f"{named(path)}: names no document of the corpus")
    return {query_id: names[:depth] for query_id, names in kept.items()}


def _qrels(judgements: Path | None, log: Path | None, queries: Mapping[str, str], corpus: Mapping[str, str]) -> Qrels:
    from gliclass_rerank.learn.evaluation.collection import read_qrels
    from gliclass_rerank.learn.report.judgements import check_known, logged_qrels

    source = judgements or log
    if source is None:
        return {}
    found = read_qrels(source) if source is judgements else logged_qrels(source, queries, corpus)
    check_known(found, queries, source)
    return found


def _compared(
    reranker: Reranker, queries: Mapping[str, str], corpus: Mapping[str, str], runs: Mapping[str, Run], qrels: Qrels
) -> list[Comparison]:
    from gliclass_rerank.learn.report.comparing import gain, rerank_lists
    from gliclass_rerank.learn.report.facts import compared

    def rank(query: str, passages: Sequence[str]) -> list[tuple[int, float]]:
        return [(hit.index, hit.score) for hit in reranker.rank(query, passages)]

    found = []
    with progress(sum(len(names) for run in runs.values() for names in run.values()), "passages") as update:
        for name, run in runs.items():
            lists = []
            for each in rerank_lists(queries, corpus, run, rank):
                lists.append(each)
                update(len(each.before))
            if lists:
                found.append(compared(name, lists, queries, corpus, qrels, gain(qrels, lists)))
    if not found:
        raise DataError("no query shares a word with a document, so there is nothing to rerank")
    return found


def _write(
    out: Path,
    reranker: Reranker,
    queries: Mapping[str, str],
    corpus: Mapping[str, str],
    comparisons: Sequence[Comparison],
) -> None:
    import torch

    from gliclass_rerank.learn.report.writing import About, verdict, write_report

    num_judged = max((len(each.gain.by_query) for each in comparisons if each.gain is not None), default=0)
    about = About(
        model=reranker.name,
        runtime=f"{reranker.backend} {reranker.dtype} on {reranker.device}",
        threads=torch.get_num_threads(),
        num_queries=len(queries),
        num_documents=len(corpus),
        judged=f"{num_judged} of them" if num_judged else "",
    )
    write_report(out, about, comparisons)
    for each in comparisons:
        typer.echo(f"{each.name}: {verdict(each).sentence}")
    note(f"the report is in {named(out)}")
