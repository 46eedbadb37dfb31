"""Command `rank`: one query, or a file of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from gliclass_rerank.cli.conditions import Where, condition
from gliclass_rerank.cli.model_options import load_reranker, with_options
from gliclass_rerank.cli.output import (
    AsJson,
    note,
    note_lines,
    print_json,
    print_row,
    progress,
    scoring_progress,
    with_fields,
)
from gliclass_rerank.errors import BackendError, DataError, InputError, shown
from gliclass_rerank.settings import RerankerSettings

if TYPE_CHECKING:
    from gliclass_rerank.learn.evaluation.files import Record
    from gliclass_rerank.learn.evaluation.passages import Passage
    from gliclass_rerank.types import Ranking

_PASSAGES_HELP: Final = "File: .txt, a passage per line; .jsonl, `text` and perhaps `title`; or - for stdin."
_QUERIES_HELP: Final = "File of queries: .txt, one per line; .jsonl, `query` and perhaps `passages`; or -."
# Best sentences of a hit.
_SHOWN_SPANS: Final = 2
# Of a ranking: in `hits`, of use to developers only, or under another name, because a query may have an `id`.
_LEFT_OUT: Final = frozenset({"hits", "windows", "examples", "truncated_examples", "id"})


@with_options(RerankerSettings)
def rank(
    settings: RerankerSettings,
    query: Annotated[str | None, typer.Option("--query", help="What is searched for.")] = None,
    passages: Annotated[Path | None, typer.Option("--passages", help=_PASSAGES_HELP)] = None,
    queries: Annotated[Path | None, typer.Option("--queries", help=f"{_QUERIES_HELP} Prints JSONL.")] = None,
    top_k: Annotated[int | None, typer.Option("--top-k", min=1, help="Print the best K.  [default: all]")] = None,
    where: Where = None,
    spans: Annotated[bool, typer.Option("--spans", help="Score the sentences of each hit too.")] = False,
    diversity: Annotated[
        float | None, typer.Option("--diversity", min=0, max=1, help="Share of its score that a repetition loses.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Rank passages for a query, or for many."""
    from gliclass_rerank.learn.evaluation.passages import load_passages

    if (query is None) == (queries is None):
        raise InputError("either `--query` or `--queries` must be given, got " + ("none" if query is None else "both"))
    if query is not None and passages is None:
        raise InputError("`--query` needs `--passages`, got none")
    loaded = None if passages is None else load_passages(passages)
    reranker = load_reranker(settings)
    rank_one = partial(reranker.rank, top_k=top_k, where=condition(where), spans=spans, diversity=diversity)
    if queries is not None:
        _rank_queries(rank_one, reranker.name, queries, loaded)
    elif query is not None and loaded is not None:
        texts = [passage.text for passage in loaded]
        with scoring_progress(len(set(texts)), "passages"):  # equal ones are scored once
            ranking = rank_one(query, texts)
        if as_json:
            print_json({"query": query, "model": reranker.name, **_ranking_fields(loaded, ranking)})
        else:
            _print_ranking(loaded, ranking)


def _rank_queries(
    rank_one: Callable[[str, list[str]], Ranking], model: str, path: Path, shared: Sequence[Passage] | None
) -> None:
    """Print a line for each query; one that cannot be ranked gets `error` in place of its hits."""
    from gliclass_rerank.learn.evaluation.passages import read_passages

    num_queries = num_failed = 0
    with progress(None, "queries", beside_results=True) as update:
        for query in read_passages(path, _query_text):
            answer: dict[str, Any]
            try:
                passages = _own_passages(query, shared)
                ranking = rank_one(query.text, [passage.text for passage in passages])
                answer = _ranking_fields(passages, ranking)
            except (InputError, DataError, BackendError) as error:
                answer, num_failed = {"error": str(error)}, num_failed + 1
            used = {"passages", "query" if "query" in query.fields else "text"}
            rest = {name: value for name, value in query.fields.items() if name not in used}
            print_json(with_fields({"query": query.text, "model": model, **answer}, rest))
            num_queries += 1
            update(1)
    if num_failed:
        note(f"{num_failed} of {num_queries} queries could not be ranked; their lines say why")
        raise typer.Exit(1)


def _query_text(record: Record) -> str:
    return record.string("query" if "query" in record.fields else "text")


def _own_passages(query: Passage, shared: Sequence[Passage] | None) -> Sequence[Passage]:
    """Passages of a query's record, strings or objects; without any those of `--passages`."""
    from gliclass_rerank.learn.evaluation.files import Record
    from gliclass_rerank.learn.evaluation.passages import Passage, passage_text

    own = query.fields.get("passages")
    if own is None:
        if shared is None:
            raise InputError(f"the query of line {query.line} has no `passages`, and `--passages` is not given")
        return shared
    if not isinstance(own, list):
        raise InputError(f"`passages` of line {query.line} must be a list, got {shown(own)}")
    found = []
    for number, item in enumerate(own):
        place = f"`passages[{number}]` of line {query.line}"
        if isinstance(item, dict):
            found.append(Passage(query.line, passage_text(Record(place, query.line, item)), item))
        elif isinstance(item, str):
            found.append(Passage(query.line, item))
        else:
            raise InputError(f"{place} must be a string or an object, got {shown(item)}")
    return found


def _ranking_fields(passages: Sequence[Passage], ranking: Ranking) -> dict[str, Any]:  # JSON
    hits = [
        with_fields({"rank": rank, **hit.to_dict(), "line": passages[hit.index].line}, passages[hit.index].fields)
        for rank, hit in enumerate(ranking, start=1)
    ]
    about = asdict(replace(ranking, hits=()))
    rest = {name: value for name, value in about.items() if name not in _LEFT_OUT}
    return {"hits": hits, **({} if ranking.id is None else {"ranking_id": ranking.id}), **rest}


def _print_ranking(passages: Sequence[Passage], ranking: Ranking) -> None:
    typer.echo("rank   score   line  passage")
    for rank, hit in enumerate(ranking, start=1):
        print_row(f"{rank:4}  {hit.score:.4f}  {passages[hit.index].line:5}  ", passages[hit.index].text)
        for span in (hit.spans or ())[:_SHOWN_SPANS]:
            print_row(f"      {span.score:.4f}         ", passages[hit.index].text[span.start : span.end])
    if ranking.truncated_query is not None:
        note("the query was cut in its middle to fit the model's window")
    repeated = [passages[hit.index].line for hit in ranking if hit.repeats is not None]
    note_lines("repeats a passage above", repeated)
    note_lines("cut to fit the model's window", [passages[cut.index].line for cut in ranking.truncated])
    note_lines("invalid Unicode was replaced", [passages[index].line for index in ranking.repaired])
