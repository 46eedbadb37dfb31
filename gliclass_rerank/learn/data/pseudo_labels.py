"""Weak supervision: a model labels texts, and what it is sure of becomes training data or examples of a store."""

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
    """Which labels are believed.

    Attributes:
        threshold: The least score of a label, in [0, 1].
        per_label: So many texts of each label are kept, those with the highest scores; None keeps all.
        multi_label: Whether any number of labels may apply, else exactly one does.
        prompt: Task description, glued to the text.
        seed: Draws which false labels the examples of a store show.
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
    """A text that the model has labelled.

    Attributes:
        index: Position of the text.
        labels: What the model says applies, at least one.
        score: The least score of these labels.
    """

    index: int
    labels: tuple[str, ...]
    score: float


@dataclass
class PseudoLabelReport:
    """What became of a file of texts.

    Attributes:
        num_texts: Texts in the file.
        num_repeated: Those of them that an earlier text equals, whatever the case and white space; left out.
        num_confident: Texts with a label above the threshold.
        num_kept: Those of them that are written.
        per_label: By label, in how many of the written texts it applies.
        mean_score: Mean of the written texts' scores.
        num_stored: Examples that were added to the store.
        num_updated: Examples that an earlier run had added, and whose labels were replaced.
        num_judged: Texts that the store has under another id, judged by somebody; left as they are.
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
    """Have a model label texts, and choose what is believed.

    Args:
        texts: Read once, a few at a time; equal ones are not told apart from others.
        labels: All labels, at least one.
        classifier: Scores them.
        settings: What is believed; None for the defaults.
        on_labelled: Called with the number of texts that were scored since the last call.

    Returns:
        The texts that are kept, ascending by index.

    Raises:
        InputError: Labels that are no list of different strings.
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
    """Label a file of texts and write classification records, which training reads.

    Nothing is written unless all texts could be labelled. A store's new examples are named after their texts, so that
    doing it again replaces their labels. A text that the store has under another id stays as it was judged.

    Args:
        target: File to write, `.jsonl`; must not exist.
        source: Texts, see `read_texts`.
        labels: All labels, at least one.
        classifier: Scores them.
        settings: What is believed; None for the defaults.
        store: What is written is added here, too; their metadata have `source`, `model` and `score`.
        progress: Told how many texts are labelled.

    Returns:
        What was done.

    Raises:
        InputError: The target cannot be written, or labels that are no list of different strings.
        DataError: The source is missing or malformed, or nothing is believed.
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
    """The surest texts of each label; one with several labels counts for each, and is kept if any has room."""
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
    """The texts of a file, each once: a text that comes a hundred times must not fill a label's share."""
    seen: set[bytes] = set()
    for text in read_texts(source):
        key = text_digest(text)
        if key not in seen:
            seen.add(key)
            yield text


def _chosen(source: Path, kept: Sequence[PseudoLabelled]) -> list[str]:
    """The texts that are kept, read again: the whole file need not fit in memory."""
    wanted = {one.index for one in kept}
    return [text for index, text in enumerate(_distinct(source)) if index in wanted]


def _add_to(
    store: ExampleStore, records: Sequence[ClassificationRecord], kept: Sequence[PseudoLabelled], model: str, seed: int
) -> tuple[int, int]:
    """Put records into a store, but for texts judged there; how many were added, and how many updated."""
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
