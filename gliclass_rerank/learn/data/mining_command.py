"""Commands `mine` and `teach`: parse, call the library, print.

Results go to stdout, progress to stderr; heavy modules are imported inside, which keeps `--help` fast.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

if TYPE_CHECKING:
    from gliclass_rerank.learn.data.agreement import Agreement
    from gliclass_rerank.learn.data.mine import MiningReport
    from gliclass_rerank.learn.data.questions import Judged
    from gliclass_rerank.learn.data.teach import TeachingReport
    from gliclass_rerank.text_models.options import Kind, Pooling

_KIND_HELP = "cross-encoder, late-interaction, encoder or gliclass.  [default: what the folder shows]"

_Paths = list[Path]
_MaxTokens = Annotated[int, typer.Option("--max-tokens", min=1, help="Longest sequence; the rest is cut.")]
_BatchTokens = Annotated[
    int | None, typer.Option("--batch-tokens", min=1, help="Tokens of a forward pass.  [default: 2048 on a CPU]")
]
_Threads = Annotated[
    int | None, typer.Option("--threads", min=1, help="Threads of a forward pass.  [default: the runtime's]")
]
_Device = Annotated[str | None, typer.Option("--device", help="cpu, cuda or mps; not for ONNX.  [default: the best]")]
_QUERY_PREFIX_HELP = "Prefix of queries, as in the model's training."
_PASSAGE_PREFIX_HELP = "Prefix of passages, as in the model's training."
_POOLING_HELP = "Of an ONNX encoder: mean or cls.  [default: as its folder says]"
_Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def mine(
    out: Annotated[Path, typer.Option("--out", help="File of records to write (.jsonl); a killed run is resumed.")],
    data: Annotated[
        list[str] | None,
        typer.Option(
            "--data", metavar="DIR[:SPLIT]", help="Collection: its judged queries and its passages. Repeatable."
        ),
    ] = None,
    corpus: Annotated[
        _Paths | None, typer.Option("--corpus", help="Collection used for its passages only. Repeatable.")
    ] = None,
    questions: Annotated[
        _Paths | None, typer.Option("--questions", help="Unjudged questions: .txt, .tsv or .jsonl. Repeatable.")
    ] = None,
    split: Annotated[str, typer.Option("--split", help="Split of collections given without one.")] = "train",
    negatives: Annotated[int, typer.Option("--negatives", min=1, help="Negatives for each query.")] = 16,
    depth: Annotated[int, typer.Option("--depth", min=1, help="Candidates considered for each query.")] = 100,
    head: Annotated[int, typer.Option("--head", min=0, help="Length of the head of the candidate list.")] = 10,
    head_share: Annotated[
        float, typer.Option("--head-share", min=0, max=1, help="Share of the negatives drawn from the head.")
    ] = 0.4,
    max_words: Annotated[int, typer.Option("--max-words", min=0, help="Words of a passage; 0 for all.")] = 200,
    titles: Annotated[bool, typer.Option("--titles/--no-titles", help="Start passages with their title.")] = True,
    max_queries: Annotated[
        int | None, typer.Option("--max-queries", min=1, help="Random sample of N from each source.")
    ] = None,
    bm25: Annotated[bool, typer.Option("--bm25/--no-bm25", help="Find candidates with BM25.")] = True,
    language: Annotated[str, typer.Option("--language", help="Language of stemmer and stop words.")] = "en",
    dense: Annotated[
        str | None, typer.Option("--dense", help="Find candidates with this encoder too: a folder, or `bundled`.")
    ] = None,
    teacher: Annotated[
        str | None, typer.Option("--teacher", help="Score candidates with this model: a folder, or `bundled`.")
    ] = None,
    kind: Annotated[str | None, typer.Option("--kind", help=f"Kind of the teacher: {_KIND_HELP}")] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the teacher.  [default: the folder's]")] = None,
    score_share: Annotated[
        float | None,
        typer.Option(
            "--score-share",
            min=0,
            max=1,
            help="Drop candidates above this share of the positive's score (teacher's, else --dense's).",
        ),
    ] = None,
    duplicate_share: Annotated[
        float,
        typer.Option("--duplicate-share", min=0, max=1, help="Drop candidates with this overlap with a positive."),
    ] = 0.8,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of samples, draws and order.")] = 0,
    dense_query_prefix: Annotated[str, typer.Option("--dense-query-prefix", help=_QUERY_PREFIX_HELP)] = "",
    dense_passage_prefix: Annotated[str, typer.Option("--dense-passage-prefix", help=_PASSAGE_PREFIX_HELP)] = "",
    dense_pooling: Annotated[str | None, typer.Option("--dense-pooling", help=_POOLING_HELP)] = None,
    max_tokens: _MaxTokens = 256,
    batch_tokens: _BatchTokens = None,
    threads: _Threads = None,
    device: _Device = None,
    as_json: _Json = False,
) -> None:
    """Find hard negatives for queries in collections."""
    from gliclass_rerank.learn.data.false_negatives import FalseNegatives
    from gliclass_rerank.learn.data.mine import Mining
    from gliclass_rerank.learn.data.mine import mine as run
    from gliclass_rerank.learn.data.partial import check_target
    from gliclass_rerank.learn.data.progress import terminal
    from gliclass_rerank.learn.data.questions import Sources
    from gliclass_rerank.learn.data.sampling import Sampling
    from gliclass_rerank.text_models.load import load_encoder, load_teacher
    from gliclass_rerank.text_models.options import ModelOptions

    limits = ModelOptions(max_tokens=max_tokens, batch_tokens=batch_tokens, threads=threads, device=device)
    # The casts here and in `teach` are safe: an unknown name is a ConfigError.
    teacher_options = replace(limits, kind=cast("Kind | None", kind))
    # Prefixes belong to one model. Mining's usual teacher, a cross-encoder, has none; `teach` sets any teacher's.
    dense_options = replace(
        limits,
        pooling=cast("Pooling | None", dense_pooling),
        query_prefix=dense_query_prefix,
        passage_prefix=dense_passage_prefix,
    )
    mining = Mining(
        sources=Sources(
            tuple(_judged(text, split) for text in data or ()), tuple(corpus or ()), tuple(questions or ())
        ),
        sampling=Sampling(num_negatives=negatives, depth=depth, head_size=head, head_share=head_share, seed=seed),
        false_negatives=FalseNegatives(duplicate_share=duplicate_share or None, score_share=score_share),
        max_words=max_words or None,
        titles=titles,
        max_queries=max_queries,
        bm25=bm25,
        language=language,
        models={
            "dense": dense if dense is None else {"folder": dense, **dense_options.described()},
            "teacher": teacher if teacher is None else {"folder": teacher, "name": name, **teacher_options.described()},
        },
    )
    check_target(out, replacing=False)
    report = run(
        out,
        mining,
        encoder=None if dense is None else load_encoder(dense, dense_options),
        teacher=None if teacher is None else (name or _name(teacher), load_teacher(teacher, teacher_options)),
        progress=terminal,
    )
    if as_json:
        typer.echo(json.dumps({**asdict(report), "out": str(out)}))
    else:
        _print_mining(report, out)


def teach(
    records: Annotated[Path, typer.Option("--records", help="File of records, such as `mine` writes.")],
    teacher: Annotated[str, typer.Option("--teacher", help="A folder with a model, or `bundled`.")],
    kind: Annotated[str | None, typer.Option("--kind", help=_KIND_HELP)] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the scores.  [default: the folder's]")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="File to write (.jsonl).  [default: the records anew]")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace scores of the same name.")] = False,
    max_tokens: _MaxTokens = 256,
    batch_tokens: _BatchTokens = None,
    threads: _Threads = None,
    device: _Device = None,
    query_prefix: Annotated[str, typer.Option("--query-prefix", help=_QUERY_PREFIX_HELP)] = "",
    passage_prefix: Annotated[str, typer.Option("--passage-prefix", help=_PASSAGE_PREFIX_HELP)] = "",
    pooling: Annotated[str | None, typer.Option("--pooling", help=_POOLING_HELP)] = None,
    as_json: _Json = False,
) -> None:
    """Add a teacher's scores to records, resuming a killed run."""
    from gliclass_rerank.learn.data.agreement import compare_teachers
    from gliclass_rerank.learn.data.progress import terminal
    from gliclass_rerank.learn.data.records import read_records
    from gliclass_rerank.learn.data.teach import Teaching, check_source
    from gliclass_rerank.learn.data.teach import teach as run
    from gliclass_rerank.text_models.load import load_teacher
    from gliclass_rerank.text_models.options import ModelOptions

    options = ModelOptions(
        kind=cast("Kind | None", kind),
        max_tokens=max_tokens,
        batch_tokens=batch_tokens,
        threads=threads,
        device=device,
        query_prefix=query_prefix,
        passage_prefix=passage_prefix,
        pooling=cast("Pooling | None", pooling),
    )
    teaching = Teaching(
        source=records,
        teacher=name or _name(teacher),
        target=out,
        overwrite=overwrite,
        model={"folder": teacher, **options.described()},
    )
    check_source(teaching)
    report = run(teaching, load_teacher(teacher, options), progress=terminal)
    agreement = compare_teachers(read_records(teaching.output))
    if as_json:
        typer.echo(json.dumps(_teaching_fields(report, agreement, teaching.teacher)))
    else:
        _print_teaching(report, agreement)


def _judged(text: str, split: str) -> Judged:
    from gliclass_rerank.learn.data.questions import Judged
    from gliclass_rerank.learn.evaluation.collection import folder_and_split

    return Judged(*folder_and_split(text, split))


def _name(model: str) -> str:
    return Path(model).expanduser().resolve().name


def _print_mining(report: MiningReport, out: Path) -> None:
    dropped = report.dropped
    print_table(
        [
            ("queries", f"{report.num_queries}  ({report.num_judged} judged)"),
            ("positives", str(report.num_positives)),
            ("negatives", f"{report.num_mined} mined, {report.num_judged_negatives} judged"),
            ("short of them", f"{report.num_short} queries"),
            ("without passages", f"{report.num_empty} queries, left out"),
            ("pool", f"{report.num_passages} passages  ({report.num_repeated} repeated or blank)"),
            ("dropped", f"{dropped.duplicates} near-duplicates, {dropped.scored_high} by score"),
            ("resumed", f"{report.num_resumed} queries"),
            ("written", str(out)),
        ]
    )


def _print_teaching(report: TeachingReport, agreement: Agreement) -> None:
    rows = [
        ("records", f"{report.num_records}  ({report.num_resumed} resumed)"),
        ("pairs", str(report.num_pairs)),
        ("pairs/s", f"{report.pairs_per_second:.1f}"),
        ("tokens/s", f"{report.tokens_per_second:.0f}"),
    ]
    for teacher, value in agreement.ndcg_at_10.items():
        rows.append((f"nDCG@10 {teacher}", f"{value:.4f}  ({agreement.num_judged[teacher]} judged records)"))
    for pair, value in agreement.tau.items():
        rows.append((f"tau {' / '.join(pair)}", f"{value:.4f}  ({agreement.num_compared[pair]} records)"))
    print_table(rows)


def print_table(rows: Sequence[tuple[str, str]]) -> None:
    """Print titles and values in two columns."""
    width = max(len(title) for title, _ in rows)
    for title, value in rows:
        typer.echo(f"{title:{width}}  {value}")


def _teaching_fields(report: TeachingReport, agreement: Agreement, teacher: str) -> dict[str, Any]:  # Any: JSON
    return {
        "teacher": teacher,
        **asdict(report),
        "pairs_per_second": report.pairs_per_second,
        "tokens_per_second": report.tokens_per_second,
        "ndcg@10": dict(agreement.ndcg_at_10),
        "kendall_tau": [{"teachers": list(pair), "tau": value} for pair, value in agreement.tau.items()],
    }
