"""Evaluation during training, with the scores of `Reranker` and `ZeroShotClassifier`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from gliclass_rerank._imports import require
from gliclass_rerank.errors import DataError
from gliclass_rerank.learn.evaluation.collection import Collection, load_collection, spread
from gliclass_rerank.learn.evaluation.ranking import rerank_collection
from gliclass_rerank.learn.training.record_file import Records
from gliclass_rerank.learn.training.records import ClassificationRecord, RankingRecord
from gliclass_rerank.learn.training.source_config import FIGURES, DevConfig
from gliclass_rerank.learn.training.sources import open_classification, open_ranking
from gliclass_rerank.model.config import AttentionPlan
from gliclass_rerank.model.head import ScoringHead
from gliclass_rerank.prompt.layout import ScoringRequest
from gliclass_rerank.prompt.planner import Planner, TruncateSide
from gliclass_rerank.runtime.export import build_executor
from gliclass_rerank.runtime.resolve import resolve_runtime
from gliclass_rerank.types import Example

# Examples of a record by query and passages, which a collection cannot hold.
Shown = Mapping[tuple[str, tuple[str, ...]], tuple[Example, ...]]


class LiveScorer:
    """Scorer over a model in training, in float32 and evaluation mode.

    Args:
        model: Model; its mode is restored after each call.
        planner: Planner of token ids.
        plan: Attention plan; None for bi-encoders.
    """

    def __init__(self, model: ScoringHead, planner: Planner[Any], plan: AttentionPlan | None) -> None:
        self._model, self._planner = model, planner
        runtime = resolve_runtime(model.config, backend="torch", device=model.logit_scale.device, dtype="float32")
        self._executor = build_executor(model, runtime, plan=plan)

    def logits(self, request: ScoringRequest, *, truncate_side: TruncateSide) -> list[float]:
        """Score a request's candidates."""
        plan = self._planner.plan(request, truncate_side=truncate_side)
        was_training = self._model.training
        self._model.eval()
        try:
            (logits,) = self._executor.run([plan])
        finally:
            self._model.train(was_training)
        return logits

    def order(self, query: str, passages: Sequence[str], examples: tuple[Example, ...] = ()) -> list[int]:
        """Rank passages: every index, best first, ties by index."""
        # Equal passages are scored once, as in `Reranker`.
        positions = {passage: position for position, passage in enumerate(dict.fromkeys(passages))}
        request = ScoringRequest(query, list(positions), examples=examples)
        logits = self.logits(request, truncate_side="candidates")
        return sorted(range(len(passages)), key=lambda index: (-logits[positions[passages[index]]], index))

    def label_logits(self, record: ClassificationRecord, prompt: str) -> list[float]:
        """Score a record's labels."""
        request = ScoringRequest(record.text, record.all_labels, prompt=prompt, examples=record.examples)
        return self.logits(request, truncate_side="text")


class DevSets:
    """Loaded dev sets of a run.

    Args:
        configs: Dev set configs.

    Raises:
        DataError: A file is missing or malformed, or has nothing to measure.
        MissingDependencyError: `ir_measures` is needed and not installed.
    """

    def __init__(self, configs: Sequence[DevConfig]) -> None:
        self._rankings: list[tuple[DevConfig, Collection, Shown]] = []
        self._classifications: list[tuple[DevConfig, Sequence[ClassificationRecord]]] = []
        for config in configs:
            if config.kind == "ranking":
                require("ir_measures", extra="train")  # before hours are spent
                self._rankings.append((config, *_collection(config)))
            else:
                records = open_classification(config)
                chosen = [records[index] for index in spread(len(records), config.limit)]
                self._classifications.append((config, chosen))

    def measure(self, scorer: LiveScorer) -> dict[str, float]:
        """Measure every set: metrics in [0, 1] under names such as `medquad.ndcg@10`."""
        figures: dict[str, float] = {}
        for config, collection, shown in self._rankings:

            def order(query: str, passages: Sequence[str], shown: Shown = shown) -> list[int]:
                return scorer.order(query, passages, shown.get((query, tuple(passages)), ()))

            quality = rerank_collection(collection, order).reranked
            figures |= {f"{config.title}.{name}": value for name, value in quality.to_dict().items()}
        for config, records in self._classifications:
            logits = [scorer.label_logits(record, config.prompt) for record in records]
            macro_f1, accuracy = classification_figures(records, logits)
            figures |= {f"{config.title}.macro_f1": macro_f1, f"{config.title}.accuracy": accuracy}
        return figures


def columns(configs: Sequence[DevConfig]) -> list[str]:
    """Names of all metrics from `DevSets.measure`."""
    ordered = sorted(configs, key=lambda config: config.kind != "ranking")
    return [f"{config.title}.{figure}" for config in ordered for figure in FIGURES[config.kind]]


def selected(configs: Sequence[DevConfig], select: str | None, figures: Mapping[str, float]) -> float:
    """Selection metric of a checkpoint, in [0, 1]; more is better.

    `select` names a metric; None averages the first metric of every set.
    """
    if select is not None:
        return figures[select]
    firsts = [figures[f"{config.title}.{FIGURES[config.kind][0]}"] for config in configs]
    return math.fsum(firsts) / len(firsts)


def classification_figures(
    records: Sequence[ClassificationRecord], logits: Sequence[Sequence[float]]
) -> tuple[float, float]:
    """Macro-F1 and accuracy.

    If every record has exactly one label, the best-scored one is predicted, else all with a score from 0.5.

    Args:
        records: At least one.
        logits: One per label of `all_labels` for each record.

    Returns:
        F1 averaged over true or predicted labels, and the share of exactly right records.
    """
    is_single = all(len(record.labels) == 1 for record in records)
    true_positives: dict[str, int] = {}
    mentions: dict[str, int] = {}  # true count plus predicted count by label
    exact = 0
    for record, row in zip(records, logits, strict=True):
        if is_single:
            predicted = {record.all_labels[max(range(len(row)), key=lambda index: (row[index], -index))]}
        else:
            predicted = {label for label, logit in zip(record.all_labels, row, strict=True) if logit >= 0}
        true = set(record.labels)
        exact += predicted == true
        for label in true & predicted:
            true_positives[label] = true_positives.get(label, 0) + 1
        for label in [*true, *predicted]:
            mentions[label] = mentions.get(label, 0) + 1
    scores = [2 * true_positives.get(label, 0) / count for label, count in mentions.items()]
    return (math.fsum(scores) / len(scores) if scores else 1.0), exact / len(records)


def _collection(config: DevConfig) -> tuple[Collection, Shown]:
    if config.path.is_dir():
        return load_collection(config.path, config.split, limit=config.limit), {}
    records = open_ranking(config.path)
    return _as_collection(config.title, records, config.limit)


def _as_collection(name: str, records: Records[RankingRecord], limit: int | None) -> tuple[Collection, Shown]:
    """Judged lists as a collection, without records that lack a positive."""
    queries, passages, qrels, candidates = {}, {}, {}, {}
    shown: dict[tuple[str, tuple[str, ...]], tuple[Example, ...]] = {}
    for number in spread(len(records), limit):
        record = records[number]
        if not any(grade > 0 for grade in record.grades):
            continue
        grades = {}
        for index, (passage, grade) in enumerate(zip(record.passages, record.grades, strict=True)):
            doc_id = f"{number}/{index}"
            passages[doc_id] = passage
            if not math.isnan(grade):
                if grade != int(grade):
                    raise DataError(f"{record.place}: grades of a dev set must be whole numbers, got {grade}")
                grades[doc_id] = int(grade)
        shown[record.query, record.passages] = record.examples
        queries[str(number)], qrels[str(number)] = record.query, grades
        candidates[str(number)] = tuple(f"{number}/{index}" for index in range(len(record.passages)))
    if not queries:
        raise DataError(f"{name}: no record has a positive grade, so there is nothing to measure")
    return Collection(name, queries, passages, qrels, candidates), shown
