"""Command line: parse, call the library, print.

Results go to stdout; progress, notes and errors go to stderr. An error is one line that starts with "error:", with exit
code 2. Model modules are imported inside the commands, which keeps `--help` fast.
"""

from __future__ import annotations

import io
import json
import shutil
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from typer.exceptions import TyperException

from gliclass_rerank._version import __version__
from gliclass_rerank.calls.steps import Token, working
from gliclass_rerank.cli.model_options import with_model_options
from gliclass_rerank.cli.notes import library_notes
from gliclass_rerank.errors import ConfigError, GLiClassRerankError
from gliclass_rerank.learn.data.mining_command import mine, teach
from gliclass_rerank.learn.data.rac_command import pseudo_label, rac_data
from gliclass_rerank.learn.training.command import average, calibrate, cascade, train
from gliclass_rerank.settings import RerankerSettings

if TYPE_CHECKING:
    from gliclass_rerank import Reranker
    from gliclass_rerank.learn.evaluation.collection import Collection
    from gliclass_rerank.learn.evaluation.passages import Passage
    from gliclass_rerank.learn.evaluation.ranking import Report
    from gliclass_rerank.runtime.passage_cache import StatesDtype
    from gliclass_rerank.types import Ranking

_PROGRAM = "gliclass-rerank"
_ERROR = 2
_INTERRUPTED = 130
_MIN_TEXT_CHARS = 20

_Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
for _command in (train, average, calibrate, cascade, mine, teach, rac_data, pseudo_label):
    app.command(_command.__name__.replace("_", "-"))(_command)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments without the program's name; None for the process's.

    Returns:
        Exit code: 0, 2 after an error, 130 after Ctrl-C.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A passage may hold characters outside the terminal's encoding.
        sys.stdout.reconfigure(errors="backslashreplace")
    with working() as token:
        if argv is None:
            _cancel_when_interrupted(token)
        try:
            code = int(typer.main.get_command(app).main(argv, prog_name=_PROGRAM, standalone_mode=False) or 0)
        except BaseException as error:  # noqa: BLE001 - raised again unless it is known
            code = _code_of(error, token)
    if code == _INTERRUPTED and argv is None:
        # The process is exiting; another Ctrl-C would only print a traceback.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return code


def _cancel_when_interrupted(token: Token) -> None:
    """Cancel the call on Ctrl-C besides raising: a library being imported may swallow the exception."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        token.cancel()
        signal.default_int_handler(number, frame)

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)


def _code_of(error: BaseException, token: Token) -> int:
    """Exit code for an exception; one that is not known is raised again."""
    if isinstance(error, KeyboardInterrupt) or token.is_cancelled:
        return _INTERRUPTED
    if isinstance(error, TyperException):
        return _fail(f"{error.format_message().rstrip('.')}; see `{_PROGRAM} --help`")
    if isinstance(error, (GLiClassRerankError, OSError)):
        return _fail(str(error))
    raise error


def _fail(message: str) -> int:
    typer.echo(f"error: {' '.join(message.split())}", err=True)
    return _ERROR


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"{_PROGRAM} {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Rerank passages with GLiClass."""


@app.command("rank")
@with_model_options()
def rank_command(
    settings: RerankerSettings,
    query: Annotated[str, typer.Option("--query", help="What is searched for.")],
    passages: Annotated[Path, typer.Option("--passages", help="File: .txt, a passage per line; .jsonl, `text`.")],
    top_k: Annotated[int | None, typer.Option("--top-k", min=1, help="Print the best K.  [default: all]")] = None,
    as_json: _Json = False,
) -> None:
    """Rank the passages of a file for a query."""
    from gliclass_rerank.learn.evaluation.passages import load_passages

    loaded = load_passages(passages)
    reranker = _load_reranker(settings)
    ranking = reranker.rank(query, [passage.text for passage in loaded], top_k=top_k)
    if as_json:
        _print_json(_ranking_fields(query, reranker.name, loaded, ranking))
    else:
        _print_ranking(loaded, ranking)


@app.command("evaluate")
@with_model_options()
def evaluate_command(
    settings: RerankerSettings,
    data: Annotated[Path, typer.Option("--data", help="Folder of the collection.")],
    split: Annotated[str, typer.Option("--split", help="Split to evaluate, such as test.")],
    qrels: Annotated[Path | None, typer.Option("--qrels", help="Judgments.  [default: qrels.SPLIT.tsv]")] = None,
    candidates: Annotated[
        Path | None,
        typer.Option("--candidates", help="Candidates.  [default: candidates.jsonl, else bm25_top100.SPLIT.jsonl]"),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Evaluate the first N queries only.")] = None,
    run_out: Annotated[Path | None, typer.Option("--run-out", help="Write the ranking here, as a TREC run.")] = None,
    as_json: _Json = False,
) -> None:
    """Rerank a collection's candidates; measure before and after."""
    from gliclass_rerank.learn.evaluation.collection import load_collection
    from gliclass_rerank.learn.evaluation.trec import check_run_path, write_run

    if run_out is not None:
        check_run_path(run_out)
    collection = load_collection(data, split, qrels=qrels, candidates=candidates, limit=limit)
    reranker = _load_reranker(settings)
    report = _rerank_with_progress(collection, reranker)
    if run_out is not None:
        write_run(run_out, report.run)
    if as_json:
        _print_json(_report_fields(report, reranker.name))
    else:
        _print_report(report, reranker.name)


@app.command("optimize")
@with_model_options()
def optimize_command(
    settings: RerankerSettings,
    prune_after: Annotated[
        int | None, typer.Option("--prune-after", min=1, help="Then remove exports unused for DAYS days.")
    ] = None,
) -> None:
    """Export a model for a CPU backend ahead of its first use."""
    from gliclass_rerank.runtime.graph_cache import default_cache_folder, prune_graphs

    if settings.backend == "torch":
        raise ConfigError("`backend` must be `onnx`, `openvino` or `auto`, got 'torch', which needs no export")
    reranker = _load_reranker(settings)
    if reranker.backend == "torch":
        raise ConfigError(
            "`backend` 'auto' is torch here, which needs no export; openvino is used if it is installed "
            "(`gliclass-rerank[openvino]`), supports the checkpoint, and the processor has bfloat16 or int8"
        )
    typer.echo(f"exported for {reranker.backend} in {reranker.dtype} to {default_cache_folder()}")
    if prune_after is not None:
        removed = prune_graphs(default_cache_folder(), unused_days=prune_after)
        typer.echo(f"removed {removed} that were not used for {prune_after} days")


@app.command("precompute")
@with_model_options(but=("dtype",))
def precompute_command(
    settings: RerankerSettings,
    passages: Annotated[
        Path,
        typer.Option(
            "--passages", help="File: .txt, a passage per line; .jsonl, `text` and `title`, as a corpus.jsonl."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder to write; must not exist.")],
    dtype: Annotated[
        str, typer.Option("--dtype", help="Of what is kept: float16, or int8, half the size.")
    ] = "float16",
) -> None:
    """Precompute query-independent passage states, for `Reranker(passage_cache=...)`."""
    from tqdm import tqdm

    from gliclass_rerank.learn.evaluation.passages import load_passages

    texts = [passage.text for passage in load_passages(passages)]
    reranker = _load_reranker(replace(settings, dtype="float32"))
    with tqdm(total=len(texts), unit=" passages", file=sys.stderr, disable=None, leave=False) as bar:
        # The cast is safe: an unknown dtype is a ConfigError.
        cache = reranker.precompute(texts, out, dtype=cast("StatesDtype", dtype), on_computed=bar.update)
    size = sum(file.stat().st_size for file in out.iterdir())
    typer.echo(f"passages       {len(texts)}  ({cache.num_passages} distinct)")
    typer.echo(f"tokens         {cache.num_tokens}")
    typer.echo(f"bytes/passage  {size / cache.num_passages:.0f}")
    typer.echo(f"written        {out}")


def _load_reranker(settings: RerankerSettings) -> Reranker:
    from gliclass_rerank import Reranker

    with library_notes():
        return Reranker(**settings.to_dict())


def _rerank_with_progress(collection: Collection, reranker: Reranker) -> Report:
    from tqdm import tqdm

    from gliclass_rerank.learn.evaluation.ranking import rerank_collection

    def rank(query: str, passages: Sequence[str]) -> list[int]:
        return [hit.index for hit in reranker.rank(query, passages)]

    # disable=None: no bar where stderr is not a terminal
    with tqdm(total=collection.num_candidates, unit=" passages", file=sys.stderr, disable=None, leave=False) as bar:
        return rerank_collection(collection, rank, on_ranked=bar.update)


def _print_json(fields: dict[str, Any]) -> None:  # JSON
    typer.echo(json.dumps(fields))


def _ranking_fields(query: str, model: str, passages: Sequence[Passage], ranking: Ranking) -> dict[str, Any]:
    hits = [
        {"rank": rank, **hit.to_dict(), "line": passages[hit.index].line, "text": passages[hit.index].text}
        for rank, hit in enumerate(ranking, start=1)
    ]
    truncated = [asdict(truncation) for truncation in ranking.truncated]
    return {"query": query, "model": model, "hits": hits, "truncated": truncated}


def _print_ranking(passages: Sequence[Passage], ranking: Ranking) -> None:
    typer.echo("rank   score   line  passage")
    for rank, hit in enumerate(ranking, start=1):
        start = f"{rank:4}  {hit.score:.4f}  {passages[hit.index].line:5}  "
        num_chars = max(shutil.get_terminal_size().columns - len(start), _MIN_TEXT_CHARS)
        typer.echo(start + _cut(passages[hit.index].text, num_chars))
    if ranking.truncated:
        lines = ", ".join(str(passages[truncation.index].line) for truncation in ranking.truncated)
        typer.echo(f"note: cut to fit the model's window: line {lines}", err=True)


def _cut(text: str, num_chars: int) -> str:
    printable = "".join(char if char.isprintable() else " " for char in text)
    flat = " ".join(printable.split())
    return flat if len(flat) <= num_chars else flat[: num_chars - 1].rstrip() + "\N{HORIZONTAL ELLIPSIS}"


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
