"""Statistics of records with examples."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from gliclass_rerank.learn.data.labelled import find_kind, labelled_parser
from gliclass_rerank.learn.evaluation.files import read_jsonl
from gliclass_rerank.learn.training.examples import judgement
from gliclass_rerank.learn.training.source_config import Kind


@dataclass
class RacStatistics:
    """Counts over a file of `make_rac_data`.

    Attributes:
        num_records: Records.
        num_with: Records by number of examples, from 0.
        num_examples: Examples.
        num_random: Random ones among them.
        num_true_labels: Labels or passages shown as true.
        num_false_labels: Labels or passages shown as false.
        num_without_false: Examples that show nothing false.
        num_agreeing: Similar examples that share a true label or relevant passage with their record, which makes
            examples useful if it holds at inference too.
        mean_similarity: Mean cosine of similar examples; 0 without any.
        mean_random_similarity: Mean cosine of random examples; 0 without any.
    """

    num_records: int = 0
    num_with: list[int] = field(default_factory=list)
    num_examples: int = 0
    num_random: int = 0
    num_true_labels: int = 0
    num_false_labels: int = 0
    num_without_false: int = 0
    num_agreeing: int = 0
    mean_similarity: float = 0.0
    mean_random_similarity: float = 0.0


def count_examples(path: Path, kind: Kind | None = None) -> RacStatistics:
    """Count the examples of a file; `kind` None detects its records, and an invalid file is a `DataError`."""
    statistics = RacStatistics()
    similarities: dict[bool, list[float]] = {True: [], False: []}
    parse = labelled_parser(path, kind or find_kind(path))
    for line in read_jsonl(path):
        labelled = parse(line)
        record, notes = labelled.record, labelled.fields.get("examples") or ()
        true_labels = set(judgement(record)[0])
        statistics.num_records += 1
        missing = len(record.examples) + 1 - len(statistics.num_with)
        statistics.num_with += [0] * missing
        statistics.num_with[len(record.examples)] += 1
        for example, note in zip(record.examples, notes, strict=True):
            is_random = note.get("is_random") is True
            similarities[is_random].append(float(note.get("similarity", 0.0)))
            statistics.num_true_labels += len(example.true_labels)
            statistics.num_false_labels += len(example.false_labels)
            statistics.num_without_false += not example.false_labels
            statistics.num_agreeing += not is_random and not true_labels.isdisjoint(example.true_labels)
    statistics.num_random = len(similarities[True])
    statistics.num_examples = len(similarities[True]) + len(similarities[False])
    statistics.mean_random_similarity = _mean(similarities[True])
    statistics.mean_similarity = _mean(similarities[False])
    return statistics


def _mean(values: list[float]) -> float:
    return round(sum(values) / len(values), 4) if values else 0.0
