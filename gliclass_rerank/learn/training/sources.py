"""Records of sources and dev sets, by their settings."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Generic

import numpy as np

from gliclass_rerank.errors import DataError, shown
from gliclass_rerank.learn.evaluation.files import Record, existing
from gliclass_rerank.learn.training.config import TrainConfig
from gliclass_rerank.learn.training.record_file import Parsed, RecordFile, Records
from gliclass_rerank.learn.training.records import (
    AnyRecord,
    ClassificationRecord,
    RankingRecord,
    classification_record,
    known_labels,
    ranking_record,
)
from gliclass_rerank.learn.training.source_config import DevConfig, SourceConfig
from gliclass_rerank.learn.training.texts_folder import TextsFolder


def load_source(config: SourceConfig, seed: int) -> Records[AnyRecord]:
    """Validate and open a source's file.

    Args:
        config: Source config.
        seed: Seed of few-shot selection.

    Returns:
        Records, at least one.

    Raises:
        DataError: The file is missing or malformed, or a required teacher did not score every record.
    """
    if config.kind == "texts":
        return TextsFolder(config.path, config.teachers, config.max_candidates)
    if config.kind == "ranking":
        ranking = open_ranking(config.path, config.teachers)
        _check_comparable(config, ranking)
        return ranking
    records = open_classification(config)
    return records if config.shots is None else _few(records, config.shots, seed)


def open_ranking(path: Path, teachers: frozenset[str] = frozenset()) -> Records[RankingRecord]:
    """Validate and open ranking records.

    Args:
        path: JSONL file; `.gz` may be omitted.
        teachers: Teachers that must have scored every record.

    Returns:
        Records.

    Raises:
        DataError: The file is missing or malformed, or scores are missing.
    """

    def parse(record: Record) -> RankingRecord:
        parsed = ranking_record(record)
        if missing := sorted(teachers - parsed.teacher_scores.keys()):
            raise DataError(
                f"{parsed.place}: a loss wants the scores of the teacher {shown(missing[0])}, "
                "which `teacher_scores` lacks"
            )
        return parsed

    return RecordFile(_existing(path), parse)


def _check_comparable(config: SourceConfig, records: Records[RankingRecord]) -> None:
    """Refuse a source whose grades teach nothing, such as all-unjudged mined candidates."""
    if config.unjudged == "negative" or config.random_negatives or all(loss.teachers for loss in config.losses):
        return
    for index in range(len(records)):
        if len({grade for grade in records[index].grades if not math.isnan(grade)}) > 1:
            return
    raise DataError(
        f"{config.path}: no record has two passages of different grades, so there is nothing to learn; "
        "`unjudged: negative` counts passages without a grade as negatives"
    )


def open_classification(config: SourceConfig | DevConfig) -> Records[ClassificationRecord]:
    """Validate and open classification records, a file or a folder's `<split>.jsonl`; a `DataError` if invalid."""
    path = data_file(config.path, config.split)
    labels = known_labels(path) if config.labels is None else config.labels
    return RecordFile(path, lambda record: classification_record(record, labels))


def data_file(path: Path, split: str) -> Path:
    """Find the file of a path and split; `.gz` may be omitted. A `DataError` if it is missing."""
    return _existing(path / f"{split}.jsonl" if path.is_dir() else path)


def _existing(path: Path) -> Path:
    found = existing(path)
    if found is None:
        raise DataError(f"{path}: no such file, plain or .gz")
    return found


class _Chosen(Generic[Parsed]):
    """Subset of a file's records."""

    def __init__(self, records: Records[Parsed], positions: list[int]) -> None:
        self._records, self._positions = records, positions

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, index: int) -> Parsed:
        return self._records[self._positions[index]]


def _few(records: Records[ClassificationRecord], shots: int, seed: int) -> Records[ClassificationRecord]:
    """Seeded choice of `shots` records per label; a record counts for each of its labels."""
    wanted: dict[str, int] = {}
    chosen = []
    for position in np.random.default_rng([seed, len(records)]).permutation(len(records)).tolist():
        labels = records[position].labels
        if any(wanted.get(label, 0) < shots for label in labels):
            chosen.append(position)
            for label in labels:
                wanted[label] = wanted.get(label, 0) + 1
    return _Chosen(records, sorted(chosen))


def data_files(config: TrainConfig) -> dict[str, int]:
    """Bytes of each data file, by which a resumed run detects changes."""
    sizes: dict[str, int] = {}
    parts: list[SourceConfig | DevConfig] = [*config.sources, *config.dev]
    for number, part in enumerate(parts):
        if part.path.is_dir() and part.kind != "classification":  # a collection, or texts: many files
            found = sorted(entry for entry in part.path.iterdir() if entry.is_file())
        else:
            found = [data_file(part.path, part.split)]
        sizes |= {f"{number}: {path.name}": path.stat().st_size for path in found}
    return sizes
