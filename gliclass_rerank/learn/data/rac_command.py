"""Commands `rac-data` and `pseudo-label`: parse, call the library, print.

Results go to stdout, progress to stderr; heavy modules are imported inside, which keeps `--help` fast.
"""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from gliclass_rerank.errors import InputError
from gliclass_rerank.learn.data.mining_command import print_table

if TYPE_CHECKING:
    from gliclass_rerank.examples.backends import Backend
    from gliclass_rerank.learn.data.pseudo_labels import PseudoLabelReport
    from gliclass_rerank.learn.data.statistics import RacStatistics
    from gliclass_rerank.learn.training.source_config import Kind, Unjudged

_Encoder = Annotated[str, typer.Option("--encoder", help="Encoder of texts: a folder, or `bundled`.")]
_MaxTokens = Annotated[int, typer.Option("--max-tokens", min=1, help="Longest text for the encoder; the rest is cut.")]
_Device = Annotated[str | None, typer.Option("--device", help="cpu, cuda or mps.  [default: the best one]")]
_Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of every random choice.")]
_Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def rac_data(
    data: Annotated[
        Path, typer.Option("--data", help="Labelled records (.jsonl), or a folder with labels.json and SPLIT.jsonl.")
    ],
    out: Annotated[Path, typer.Option("--out", help="File of records to write (.jsonl); a killed run is resumed.")],
    pool: Annotated[
        Path | None, typer.Option("--pool", help="Take examples from these records.  [default: those of --data]")
    ] = None,
    kind: Annotated[
        str | None, typer.Option("--kind", help="ranking or classification.  [default: what the first line shows]")
    ] = None,
    split: Annotated[str, typer.Option("--split", help="File of a folder.")] = "train",
    labels: Annotated[
        Path | None, typer.Option("--labels", help="JSON list of all labels.  [default: labels.json beside the data]")
    ] = None,
    records: Annotated[
        int | None, typer.Option("--records", min=1, help="Write a random sample of N records.  [default: all]")
    ] = None,
    neighbours: Annotated[int, typer.Option("--neighbours", min=1, help="Most similar records considered.")] = 3,
    min_similarity: Annotated[
        float, typer.Option("--min-similarity", min=-1, max=1, help="Minimum cosine of a neighbour.")
    ] = 0.5,
    min_examples: Annotated[int, typer.Option("--min-examples", min=0, help="Minimum examples of a record.")] = 1,
    max_examples: Annotated[int, typer.Option("--max-examples", min=1, help="Maximum examples of a record.")] = 3,
    random_share: Annotated[
        float, typer.Option("--random-share", min=0, max=1, help="Share of examples replaced by random records.")
    ] = 0.3,
    drop_false_share: Annotated[
        float,
        typer.Option("--drop-false-share", min=0, max=1, help="Share of examples with true labels that lose the rest."),
    ] = 0.5,
    true_labels: Annotated[
        int | None,
        typer.Option("--true-labels", min=0, help="True labels of an example.  [default: 1 passage, or all labels]"),
    ] = None,
    false_labels: Annotated[
        int | None,
        typer.Option("--false-labels", min=0, help="False labels of an example.  [default: 1 passage, or 3 labels]"),
    ] = None,
    unjudged: Annotated[
        str, typer.Option("--unjudged", help="ignore, or negative: passages without a grade are shown as false.")
    ] = "ignore",
    encoder: _Encoder = "bundled",
    prefix: Annotated[str, typer.Option("--prefix", help="Prefix of every text, as in the encoder's training.")] = "",
    max_tokens: _MaxTokens = 256,
    batch_tokens: Annotated[
        int | None, typer.Option("--batch-tokens", min=1, help="Tokens of a forward pass.  [default: 2048 on a CPU]")
    ] = None,
    device: _Device = None,
    backend: Annotated[
        str, typer.Option("--backend", help="auto, numpy, faiss, faiss_flat, faiss_hnsw or faiss_ivf_pq.")
    ] = "auto",
    seed: _Seed = 0,
    statistics: Annotated[
        Path | None, typer.Option("--statistics", help="Write statistics here, as one JSON object.")
    ] = None,
    as_json: _Json = False,
) -> None:
    """Add similar records to each record, as judged examples."""
    from gliclass_rerank.examples.encoders import LocalEncoder
    from gliclass_rerank.learn.data.partial import check_target
    from gliclass_rerank.learn.data.progress import terminal
    from gliclass_rerank.learn.data.rac_data import RacData, make_rac_data
    from gliclass_rerank.learn.training.records import read_labels

    settings = RacData(
        source=data,
        # The casts are safe: an unknown name is a ConfigError.
        kind=cast("Kind | None", kind),
        split=split,
        pool=pool,
        labels=None if labels is None else read_labels(labels),
        num_records=records,
        max_neighbours=neighbours,
        min_similarity=min_similarity,
        min_examples=min_examples,
        max_examples=max_examples,
        random_share=random_share,
        drop_false_share=drop_false_share,
        max_true=true_labels,
        max_false=false_labels,
        unjudged=cast("Unjudged", unjudged),
        backend=cast("Backend", backend),
        seed=seed,
    )
    check_target(out, replacing=False)
    model = LocalEncoder(encoder, max_tokens=max_tokens, batch_tokens=batch_tokens, device=device, prefix=prefix)
    made = make_rac_data(out, settings, model, progress=terminal)
    fields = json.dumps({**asdict(made), "out": str(out)})
    if statistics is not None:
        statistics.write_text(fields + "\n", encoding="utf-8")
    if as_json:
        typer.echo(fields)
    else:
        _print_statistics(made, out)


def pseudo_label(
    texts: Annotated[Path, typer.Option("--texts", help="File: .txt, a text per line; .jsonl, `text`.")],
    out: Annotated[Path, typer.Option("--out", help="File of classification records to write (.jsonl).")],
    label: Annotated[list[str] | None, typer.Option("--label", help="A label. Repeatable.")] = None,
    labels: Annotated[Path | None, typer.Option("--labels", help="JSON list of labels.")] = None,
    threshold: Annotated[float, typer.Option("--threshold", min=0, max=1, help="Minimum score of a label.")] = 0.5,
    per_label: Annotated[
        int | None,
        typer.Option("--per-label", min=1, help="Keep the N most confident texts of each label.  [default: all]"),
    ] = None,
    multi_label: Annotated[
        bool, typer.Option("--multi-label", help="Any number of labels may apply, not one.")
    ] = False,
    prompt: Annotated[str, typer.Option("--prompt", help="Task description, prepended to the text.")] = "",
    store: Annotated[
        Path | None, typer.Option("--store", help="Add the texts to this example store too; created if missing.")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="Folder or hub name.  [default: bundled]")] = None,
    revision: Annotated[str | None, typer.Option("--revision", help="Revision of a hub checkpoint.")] = None,
    encoder: _Encoder = "bundled",
    max_tokens: _MaxTokens = 256,
    device: _Device = None,
    seed: _Seed = 0,
    as_json: _Json = False,
) -> None:
    """Label texts with a model, and keep confident ones."""
    from gliclass_rerank.classifier import ZeroShotClassifier
    from gliclass_rerank.examples import ExampleStore, LocalEncoder
    from gliclass_rerank.learn.data.partial import check_target
    from gliclass_rerank.learn.data.progress import terminal
    from gliclass_rerank.learn.data.pseudo_labels import PseudoLabelling, write_pseudo_labels
    from gliclass_rerank.learn.training.records import read_labels

    settings = PseudoLabelling(
        threshold=threshold, per_label=per_label, multi_label=multi_label, prompt=prompt, seed=seed
    )
    names = [*(label or ()), *(() if labels is None else read_labels(labels))]
    if not names:
        raise InputError("`--label` or `--labels` must name the labels, got neither")
    check_target(out, replacing=False)
    classifier = ZeroShotClassifier(model, device=device, revision=revision)
    # Opened first: an unusable store must not cost the time of labelling.
    opened = (
        nullcontext()
        if store is None
        else ExampleStore(store, LocalEncoder(encoder, max_tokens=max_tokens, device=device))
    )
    with opened as examples:
        report = write_pseudo_labels(out, texts, names, classifier, settings, store=examples, progress=terminal)
    if as_json:
        typer.echo(json.dumps({**asdict(report), "out": str(out)}))
    else:
        _print_report(report, out, store)


def _print_statistics(made: RacStatistics, out: Path) -> None:
    counts = ", ".join(f"{count} with {number}" for number, count in enumerate(made.num_with))
    num_similar = made.num_examples - made.num_random
    print_table(
        [
            ("records", f"{made.num_records}  ({counts})"),
            ("examples", f"{made.num_examples}  ({num_similar} similar, {made.num_random} random)"),
            ("true labels", str(made.num_true_labels)),
            ("false labels", f"{made.num_false_labels}  ({made.num_without_false} examples without)"),
            ("agreeing", f"{made.num_agreeing} of {num_similar} similar examples share a true label"),
            ("similarity", f"{made.mean_similarity:.4f}  (random {made.mean_random_similarity:.4f})"),
            ("written", str(out)),
        ]
    )


def _print_report(report: PseudoLabelReport, out: Path, store: Path | None) -> None:
    rows = [
        ("texts", f"{report.num_texts}  ({report.num_repeated} repeated)"),
        ("confident", str(report.num_confident)),
        ("kept", f"{report.num_kept}  (mean score {report.mean_score:.4f})"),
        *((f"  {label}", str(count)) for label, count in report.per_label.items()),
    ]
    if store is not None:
        rows.append(
            (
                "stored",
                f"{report.num_stored} new, {report.num_updated} updated, {report.num_judged} judged already: {store}",
            )
        )
    print_table([*rows, ("written", str(out))])
