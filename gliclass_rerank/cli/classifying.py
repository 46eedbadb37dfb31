"""Command `classify`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from gliclass_rerank.checks import named
from gliclass_rerank.cli.model_options import with_options
from gliclass_rerank.cli.notes import library_notes
from gliclass_rerank.cli.output import note_lines, print_json, print_row, progress
from gliclass_rerank.errors import DataError, InputError, shown
from gliclass_rerank.settings import ModelSettings

if TYPE_CHECKING:
    from gliclass_rerank.learn.evaluation.passages import Passage
    from gliclass_rerank.types import Classification

_BATCH = 16


@with_options(ModelSettings)
def classify(
    settings: ModelSettings,
    texts: Annotated[
        Path | None,
        typer.Option("--texts", help="File: .txt, a text per line; .jsonl, `text`; or - for standard input."),
    ] = None,
    text: Annotated[list[str] | None, typer.Option("--text", help="Text to classify. Repeatable.")] = None,
    label: Annotated[list[str] | None, typer.Option("--label", help="Label. Repeatable.")] = None,
    labels: Annotated[
        Path | None, typer.Option("--labels", help="File: .txt, a label per line; .json, a list or tree; or -.")
    ] = None,
    threshold: Annotated[float, typer.Option("--threshold", min=0, max=1, help="Minimum score of a label.")] = 0.5,
    one: Annotated[bool, typer.Option("--one", help="Exactly one label applies to each text.")] = False,
    prompt: Annotated[str | None, typer.Option("--prompt", help="Task description; end it with a space.")] = None,
    descriptions: Annotated[
        Path | None, typer.Option("--descriptions", help="JSON file: description by label, for some or all.")
    ] = None,
    long_texts: Annotated[
        Literal["cut", "max", "mean"],
        typer.Option("--long-texts", help="Cut long texts, or pool their chunks by maximum or mean."),
    ] = "cut",
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object for each text.")] = False,
) -> None:
    """Say which labels apply to texts."""
    from gliclass_rerank import ZeroShotClassifier
    from gliclass_rerank.learn.evaluation.files import read_json

    given = _given_texts(texts, text)
    names = _labels(label, labels)
    meanings = None if descriptions is None else read_json(descriptions)
    with library_notes():
        classifier = ZeroShotClassifier(**settings.to_dict())
    cut: list[int] = []
    with progress(None, "texts", beside_results=True) as update:
        source = iter(given)
        while batch := list(islice(source, _BATCH)):
            found = classifier.classify(
                [each.text for each in batch],
                names,
                threshold,
                not one,
                prompt=prompt,
                descriptions=meanings,
                long_texts=long_texts,
            )
            for each, result in zip(batch, found, strict=True):
                _print_classification(each, result, as_json=as_json)
                cut += [each.line] * (result.truncated is not None)
            update(len(batch))
    if not as_json:
        note_lines("cut to fit the model's window", cut)


def _given_texts(path: Path | None, by_hand: Sequence[str] | None) -> Iterable[Passage]:
    from gliclass_rerank.learn.evaluation.passages import Passage, read_passages

    if (path is None) == (not by_hand):
        raise InputError("either `--texts` or `--text` must be given, got " + ("none" if path is None else "both"))
    if path is not None:
        return read_passages(path, lambda record: record.string("text"))
    return [Passage(number, text) for number, text in enumerate(by_hand or (), start=1)]


def _labels(by_hand: Sequence[str] | None, path: Path | None) -> Any:  # JSON
    from gliclass_rerank.learn.evaluation.files import is_stream, read_json
    from gliclass_rerank.learn.evaluation.passages import load_passages

    if (path is None) == (not by_hand):
        raise InputError("either `--label` or `--labels` must be given, got " + ("none" if path is None else "both"))
    if path is None:
        return list(by_hand or ())
    if path.suffix != ".json":
        if path.suffix != ".txt" and not is_stream(path):
            raise DataError(f"{named(path)}: the name of a file of labels must end in .txt or .json")
        return [each.text for each in load_passages(path)]
    labels = read_json(path)
    if not isinstance(labels, (list, dict)):
        raise DataError(f"{named(path)}: must hold a list or tree of labels, got {shown(labels)}")
    return labels


def _print_classification(text: Passage, found: Classification, *, as_json: bool) -> None:
    if not as_json:
        labels = ", ".join(f"{each.label} {each.score:.2f}" for each in found) or "-"
        print_row(f"{text.line:5}  {labels}  ", text.text)
        return
    from gliclass_rerank.learn.evaluation.passages import with_fields

    ours = {
        "text": text.text,
        "labels": [{"label": each.label, "score": each.score} for each in found],
        "line": text.line,
        "truncated": None if found.truncated is None else asdict(found.truncated),
    }
    print_json(with_fields(ours, text.fields))
