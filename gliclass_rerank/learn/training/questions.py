"""Sampling of training questions from records: candidates, order and augmentation.

A question is a function of its record and generator.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gliclass_rerank.learn.training.augment import changed_query, changed_text, cut_passage, shortened
from gliclass_rerank.learn.training.examples import drawn, example_of
from gliclass_rerank.learn.training.record_file import Records
from gliclass_rerank.learn.training.records import UNKNOWN, AnyRecord, ClassificationRecord, RankingRecord, TextsRecord
from gliclass_rerank.learn.training.source_config import AugmentConfig, SourceConfig
from gliclass_rerank.types import Example


@dataclass(frozen=True)
class Question:
    """Text with candidates and their targets.

    Attributes:
        text: Query or text.
        candidates: Passages or labels, in prompt order.
        grades: One per candidate; NaN if unknown.
        teacher_scores: One score per candidate by teacher; NaN if unknown.
        examples: Judged examples, in prompt order.
        place: Place of the record, for messages.
        vectors: FloatArray [num_candidates, width] by teacher, of texts.
        seed: Seed of actions that a policy samples.
    """

    text: str
    candidates: tuple[str, ...]
    grades: tuple[float, ...]
    teacher_scores: Mapping[str, tuple[float, ...]]
    examples: tuple[Example, ...]
    place: str
    vectors: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    seed: int = 0


def ask_about(records: Records[AnyRecord], index: int, source: SourceConfig, rng: np.random.Generator) -> Question:
    """Sample a question about a record.

    Args:
        records: Records of the source; others serve as random negatives and examples.
        index: Index of the record.
        source: Sampling and augmentation settings.
        rng: Generator.

    Returns:
        The question, with at least one candidate.
    """
    record = records[index]
    if isinstance(record, TextsRecord):
        return _about_texts(record, source, rng)
    if isinstance(record, RankingRecord):
        return _about_passages(record, records, source, rng)
    return _about_labels(record, records, source, rng)


def _about_passages(
    record: RankingRecord,
    records: Records[AnyRecord],
    source: SourceConfig,
    rng: np.random.Generator,
) -> Question:
    room = _room(source, rng)
    own = _without_repetitions(record)
    positives = [index for index in own if record.grades[index] > 0]
    others = [index for index in own if not record.grades[index] > 0]
    grades: Sequence[float] = record.grades
    if source.unjudged == "negative" and positives:
        grades = [0.0 if math.isnan(grade) else grade for grade in grades]
    # At least one place for a negative, if any: positives alone teach nothing.
    most = room if not others and not source.random_negatives else max(1, room - 1)
    if source.max_positives is not None:
        most = min(most, source.max_positives)
    kept = drawn(positives, most, rng)
    kept += drawn(others, max(room - len(kept) - source.random_negatives, 0 if kept else 1), rng)
    foreign = _foreign_passages(record, records, min(source.random_negatives, room - len(kept)), rng)
    passages = [record.passages[index] for index in kept] + foreign
    order = rng.permutation(len(passages)).tolist()

    def arranged(values: Sequence[float], of_foreign: float) -> tuple[float, ...]:
        column = [values[index] for index in kept] + [of_foreign] * len(foreign)
        return tuple(column[place] for place in order)

    return Question(
        text=changed_query(record.query, source.augment, rng),
        candidates=tuple(
            cut_passage(shortened(passages[place], source.max_passage_words), source.augment, rng) for place in order
        ),
        grades=arranged(grades, 0.0),
        teacher_scores={name: arranged(scores, UNKNOWN) for name, scores in record.teacher_scores.items()},
        examples=_shown(record, records, source.augment, rng),
        place=record.place,
    )


def _about_labels(
    record: ClassificationRecord,
    records: Records[AnyRecord],
    source: SourceConfig,
    rng: np.random.Generator,
) -> Question:
    room = _room(source, rng)
    true = set(record.labels)
    kept = drawn([label for label in record.all_labels if label in true], room, rng)
    kept += drawn([label for label in record.all_labels if label not in true], room - len(kept), rng)
    labels = tuple(kept[place] for place in rng.permutation(len(kept)).tolist())
    return Question(
        text=changed_text(record.text, source.augment, rng),
        candidates=labels,
        grades=tuple(float(label in true) for label in labels),
        teacher_scores={},
        examples=_shown(record, records, source.augment, rng),
        place=record.place,
    )


def _about_texts(record: TextsRecord, source: SourceConfig, rng: np.random.Generator) -> Question:
    """Texts beside an empty query: their vectors are the target, and depend on nothing else."""
    order = rng.permutation(len(record.texts)).tolist()
    return Question(
        text="",
        candidates=tuple(
            changed_text(shortened(record.texts[place], source.max_passage_words), source.augment, rng)
            for place in order
        ),
        grades=(UNKNOWN,) * len(order),
        teacher_scores={},
        examples=(),
        place=record.place,
        vectors={name: vectors[order] for name, vectors in record.vectors.items()},
    )


def _room(source: SourceConfig, rng: np.random.Generator) -> int:
    least = source.max_candidates if source.min_candidates is None else source.min_candidates
    return int(rng.integers(least, source.max_candidates + 1))


def _without_repetitions(record: RankingRecord) -> list[int]:
    """Positions of distinct passages, the best-graded of duplicates: a copy of a positive is not a negative."""
    best: dict[str, int] = {}
    for index, passage in enumerate(record.passages):
        known = best.get(passage)
        if known is None or _worth(record.grades[index]) > _worth(record.grades[known]):
            best[passage] = index
    return sorted(best.values())


def _worth(grade: float) -> float:
    return -math.inf if math.isnan(grade) else grade


def _foreign_passages(
    record: RankingRecord,
    records: Records[AnyRecord],
    count: int,
    rng: np.random.Generator,
) -> list[str]:
    """Random passages of other queries; fewer than `count` if draws repeat existing ones."""
    found: list[str] = []
    taken = {record.query, *record.passages}
    for _ in range(count):
        other = records[int(rng.integers(len(records)))]
        assert isinstance(other, RankingRecord), "a source holds one kind"
        passage = other.passages[int(rng.integers(len(other.passages)))]
        if passage not in taken and other.query != record.query:
            found.append(passage)
            taken.add(passage)
    return found


def _shown(
    record: RankingRecord | ClassificationRecord,
    records: Records[AnyRecord],
    settings: AugmentConfig,
    rng: np.random.Generator,
) -> tuple[Example, ...]:
    chosen = list(record.examples)
    if settings.max_examples is not None:
        chosen = []
        for place in range(int(rng.integers(settings.max_examples + 1))):
            if rng.random() < settings.random_examples:
                other = records[int(rng.integers(len(records)))]
                assert not isinstance(other, TextsRecord), "a source holds one kind"
                if other.place != record.place:  # it would give the answer away
                    chosen.append(example_of(other, rng))
            elif place < len(record.examples):
                chosen.append(record.examples[place])
    return tuple(
        # Without anything else to show, the example would be empty.
        Example(example.text, example.true_labels)
        if rng.random() < settings.drop_false_labels and example.true_labels
        else example
        for example in chosen
    )
