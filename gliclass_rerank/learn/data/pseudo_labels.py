"""Pseudo-labelling: confident predictions become training data or stored examples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np

from gliclass_rerank.checks import checked_texts
from gliclass_rerank.classifier import ZeroShotClassifier
from gliclass_rerank.errors import ConfigError, DataError, InputError, listed
from gliclass_rerank.examples.store import ExampleStore
from gliclass_rerank.examples.text_identity import text_digest
from gliclass_rerank.files.atomic_write import atomic_file
from gliclass_rerank.learn.data.labelled import JsonLine
from gliclass_rerank.learn.data.partial import check_target
from gliclass_rerank.learn.data.progress import Progress, silent
from gliclass_rerank.learn.data.unlabelled import read_texts
from gliclass_rerank.learn.training.examples import example_of
from gliclass_rerank.learn.training.records import ClassificationRecord

_CHUNK_TEXTS: Final = 64
_DECIMALS: Final = 6


@dataclass(frozen=True, kw_only=True)
class PseudoLabelling:
    """Selection of confident labels.

    Attributes:
        threshold: Minimum score of a label, in [0, 1].
        per_label: Maximum texts per label, highest scores first; None for all.
        multi_label: Any number of labels may apply; else exactly one does.
        prompt: Task description, prepended to the text.
        seed: Seed of the false labels shown by stored examples.
    """

    threshold: float = 0.5
    per_label: int | None = None
    multi_label: bool = False
    prompt: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ConfigError(f"`threshold` must be between 0 and 1, got {self.threshold}")
        if self.per_label is not None and self.per_label < 1:
            raise ConfigError(f"`per_label` must be at least 1, got {self.per_label}")
        if self.seed < 0:
            raise ConfigError(f"`seed` must be at least 0, got {self.seed}")


@dataclass(frozen=True)
class PseudoLabelled:
    """Pseudo-labelled text.

    Attributes:
        index: Position of the text.
        labels: Predicted labels, at least one.
        score: Lowest score of these labels.
    """

    index: int
    labels: tuple[str, ...]
    score: float


@dataclass
class PseudoLabelReport:
    """Statistics of a pseudo-labelled file.

    Attributes:
        num_texts: Texts in the file.
        num_repeated: Duplicates up to case and white space; left out.
        num_confident: Texts with a label above the threshold.
        num_kept: Texts written.
        per_label: Texts written by label.
        mean_score: Mean score of the texts written.
        num_stored: Examples added to the store.
        num_updated: Examples of an earlier run with replaced labels.
        num_judged: Texts already in the store under another id, left unchanged.
    """

    num_texts: int = 0
    num_repeated: int = 0
    num_confident: int = 0
    num_kept: int = 0
    per_label: dict[str, int] = field(default_factory=dict)
    mean_score: float = 0.0
    num_stored: int = 0
    num_updated: int = 0
    num_judged: int = 0


def pseudo_label(
    texts: Iterable[str],
    labels: Sequence[str],
    classifier: ZeroShotClassifier,
    settings: PseudoLabelling | None = None,
    *,
    on_labelled: Callable[[int], object] | None = None,
) -> list[PseudoLabelled]:
    """Label texts with a model and select confident ones.

    Args:
        texts: Texts, read lazily; duplicates are kept.
        labels: All labels, at least one.
        classifier: Classifier.
        settings: Selection; None for the defaults.
        on_labelled: Callback with the number of texts scored since the last call.

    Returns:
        Selected texts, ascending by index.

    Raises:
        InputError: `labels` is not a list of distinct strings.
        BackendError: The forward pass failed.
    """
    settings = PseudoLabelling() if settings is None else settings
    believed = _believed(texts, _checked_labels(labels), classifier, settings, on_labelled)
    return _balanced(list(believed), settings.per_label)


def write_pseudo_labels(
    target: Path,
    source: Path,
    labels: Sequence[str],
    classifier: ZeroShotClassifier,
    settings: PseudoLabelling | None = None,
    *,
    store: ExampleStore | None = None,
    progress: Progress = silent,
) -> PseudoLabelReport:
    """Label a file of texts and write classification records for training, all or nothing.

    New examples of a store are named after their texts, so a repeated run replaces their labels. Texts stored under
    another
    id keep their judgements.

    Args:
        target: New `.jsonl` file.
        source: File for `read_texts`.
        labels: All labels, at least one.
        classifier: Classifier.
        settings: Selection; None for the defaults.
        store: Store to extend, with metadata `source`, `model` and `score`; None for none.
        progress: Progress of texts labelled.

    Returns:
        Statistics.

    Raises:
        InputError: The target cannot be written, or `labels` is not a list of distinct strings.
        DataError: The source is missing or malformed, or no text is confident.
        BackendError: The forward pass failed.
    """
    settings = PseudoLabelling() if settings is None else settings
    check_target(target, replacing=False)
    labels = _checked_labels(labels)
    report = PseudoLabelReport(num_texts=sum(1 for _ in read_texts(source)))
    if not report.num_texts:
        raise DataError(f"{source}: holds no texts")
    report.num_repeated = report.num_texts - sum(1 for _ in _distinct(source))
    with progress("texts", report.num_texts - report.num_repeated) as advance:
        believed = list(_believed(_distinct(source), labels, classifier, settings, advance))
    kept = _balanced(believed, settings.per_label)
    if not kept:
        raise DataError(f"{source}: no label of any text has a score of at least {settings.threshold}; lower it")
    report.num_confident, report.num_kept = len(believed), len(kept)
    report.per_label = {label: sum(label in one.labels for one in kept) for label in labels}
    report.mean_score = round(sum(one.score for one in kept) / len(kept), 4)
    records = [
        ClassificationRecord(f"{source}: text {one.index + 1}", text, one.labels, labels)
        for one, text in zip(kept, _chosen(source, kept), strict=True)
    ]
    with atomic_file(target) as staging, staging.open("w", encoding="utf-8") as handle:
        for record, one in zip(records, kept, strict=True):
            fields = {"text": record.text, "labels": [*record.labels], "all_labels": [*labels], "score": one.score}
            handle.write(JsonLine(fields).to_line() + "\n")
        if store is not None:
            report.num_stored, report.num_updated = _add_to(store, records, kept, classifier.name, settings.seed)
            report.num_judged = report.num_kept - report.num_stored - report.num_updated
    return report


def _believed(
    texts: Iterable[str],
    labels: tuple[str, ...],
    classifier: ZeroShotClassifier,
    settings: PseudoLabelling,
    on_labelled: Callable[[int], object] | None,
) -> Iterator[PseudoLabelled]:
    rest, first = iter(texts), 0
    while chunk := list(islice(rest, _CHUNK_TEXTS)):
        found = classifier(
            chunk, labels, threshold=settings.threshold, multi_label=settings.multi_label, prompt=settings.prompt
        )
        for index, scored in enumerate(found, start=first):
            sure = [entry for entry in scored if entry.score >= settings.threshold]
            if sure:
                score = round(min(entry.score for entry in sure), _DECIMALS)
                yield PseudoLabelled(index, tuple(entry.label for entry in sure), score)
        first += len(chunk)
        if on_labelled is not None:
            on_labelled(len(chunk))


def _balanced(believed: list[PseudoLabelled], per_label: int | None) -> list[PseudoLabelled]:
    """Most confident texts of each label; a multi-label text counts for each, and is kept if any has room."""
    if per_label is None:
        return believed
    counts: dict[str, int] = {}
    kept = []
    for one in sorted(believed, key=lambda one: (-one.score, one.index)):
        if any(counts.get(label, 0) < per_label for label in one.labels):
            kept.append(one)
            for label in one.labels:
                counts[label] = counts.get(label, 0) + 1
    return sorted(kept, key=lambda one: one.index)


def _checked_labels(labels: object) -> tuple[str, ...]:
    names = checked_texts("labels", labels)
    if not names:
        raise InputError("`labels` must hold at least one label, got none")
    if repeated := {name for name in names if names.count(name) > 1}:
        raise InputError(f"`labels` must differ, got {listed(repeated)} more than once")
    return names


def _distinct(source: Path) -> Iterator[str]:
    """Distinct texts of a file: duplicates must not fill a label's share."""
    seen: set[bytes] = set()
    for text in read_texts(source):
        key = text_digest(text)
        if key not in seen:
            seen.add(key)
            yield text


def _chosen(source: Path, kept: Sequence[PseudoLabelled]) -> list[str]:
    """Selected texts, read again to save memory."""
    wanted = {one.index for one in kept}
    return [text for index, text in enumerate(_distinct(source)) if index in wanted]


def _add_to(
    store: ExampleStore, records: Sequence[ClassificationRecord], kept: Sequence[PseudoLabelled], model: str, seed: int
) -> tuple[int, int]:
    """Add records to a store, except texts judged there; returns the numbers added and updated."""
    ids = [_pseudo_id(record.text) for record in records]
    judged = {name for stored in store if (name := _pseudo_id(stored.example.text)) != stored.id}
    examples = [
        example_of(record, np.random.default_rng([seed, one.index])) for record, one in zip(records, kept, strict=True)
    ]
    metadata = [{"source": "pseudo-label", "model": model, "score": one.score} for one in kept]
    places = [place for place, name in enumerate(ids) if name not in judged]
    old = [place for place in places if ids[place] in store]
    new = [place for place in places if ids[place] not in store]
    store.update([ids[i] for i in old], [examples[i] for i in old], [metadata[i] for i in old])
    store.add([examples[i] for i in new], ids=[ids[i] for i in new], metadata=[metadata[i] for i in new])
    return len(new), len(old)


def _pseudo_id(text: str) -> str:
    return f"pseudo-{text_digest(text).hex()}"
