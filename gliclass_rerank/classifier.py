"""Zero-shot classification with any labels in one forward pass."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

from gliclass_rerank.base import LoadedModel
from gliclass_rerank.calls.background import in_background
from gliclass_rerank.calls.forks import in_sound_thread
from gliclass_rerank.checks import (
    checked_choice,
    checked_count,
    checked_flag,
    checked_list,
    checked_share,
    checked_text,
    checked_texts,
    is_a,
    repaired_texts,
)
from gliclass_rerank.errors import InputError
from gliclass_rerank.examples.retrieval import Examples
from gliclass_rerank.pipeline import Pipeline, Scored, probabilities
from gliclass_rerank.prompt.examples import ExampleFormat
from gliclass_rerank.prompt.label_sets import Labels, described, flatten_labels, label_sets
from gliclass_rerank.prompt.layout import ScoringRequest
from gliclass_rerank.prompt.parts import label_groups
from gliclass_rerank.settings import ModelSettings, taking
from gliclass_rerank.types import Classification, Example, LabelScore, Truncation

logger = logging.getLogger(__name__)

LongTexts = Literal["cut", "max", "mean"]
TextExamples = Examples | Sequence[Examples | None]

_FORMATS: Final = get_args(ExampleFormat)
_LONG_TEXTS: Final = get_args(LongTexts)


class ZeroShotClassifier(LoadedModel):
    """Zero-shot text classifier over a GLiClass checkpoint; thread-safe, immutable after construction.

    One instance holds one model, does not change after construction and may be shared by any number of threads. Labels
    are never cut. Those that take more than half of the window beside a long text are spread over several windows.

    Args:
        settings: Fields of `ModelSettings` by name; the first one, `model`, also by position.

    Raises:
        ConfigError: An unknown setting, an unsupported plan or backend, or a store filled by another encoder.
        CheckpointError: The checkpoint cannot be loaded.
        MissingDependencyError: The backend is not installed.
        BackendError: The export cannot be stored or loaded.
        DataError: The store cannot be opened, for example because another process has it open.
    """

    @taking(ModelSettings)
    def __init__(self, settings: ModelSettings) -> None:
        pipeline = in_sound_thread(Pipeline, settings)
        self._text_chunks = pipeline.text_chunks
        super().__init__(settings, pipeline)

    def logits(
        self,
        text: str,
        labels: Labels,
        prompt: str | None = None,
        examples: Examples | None = None,
        example_format: ExampleFormat | None = None,
    ) -> list[float]:
        """Compute the raw logits of one text, cut to the window.

        Args:
            text: Text to classify.
            labels: Labels, or a hierarchy of them (nested mappings; names are joined by dots). May be empty.
            prompt: Task description, prepended to the text: end it with a space.
            examples: Judged examples. None queries the store, if any; an empty list shows none.
            example_format: `"rac"`, `"few_shot"`, or None for the checkpoint's.

        Returns:
            One logit per label, in label order.

        Raises:
            InputError: An argument has the wrong type.
            WindowOverflowError: Prompt, examples and a label leave no room for the text.
            BackendError: The forward pass or the store failed.
        """
        texts, sets = [checked_text("`text`", text)], [flatten_labels(labels)]
        requests = self._requests(texts, sets, prompt, examples, example_format)
        (scored,) = self._pipeline.score(requests, truncate_side="text")
        _log_cuts(0, scored.plan.text_truncation, scored.plan.truncated_examples)
        return scored.logits

    def classify(
        self,
        texts: str | Sequence[str],
        labels: Labels | Sequence[Labels],
        threshold: float = 0.5,
        multi_label: bool = True,
        *,
        prompt: str | Sequence[str] | None = None,
        examples: TextExamples | None = None,
        example_format: ExampleFormat | None = None,
        descriptions: Mapping[str, str] | None = None,
        long_texts: LongTexts = "cut",
        labels_at_once: int | None = None,
    ) -> list[Classification]:
        """Classify texts.

        Args:
            texts: One text or a list of texts, or documents with `text`. Invalid Unicode is replaced by U+FFFD.
            labels: Labels for all texts (a list or a hierarchy), or one list of labels per text.
            threshold: Minimum score of a returned label; `multi_label` only.
            multi_label: Any number of labels may apply (sigmoid); else exactly one does (softmax; the best is returned,
                ties by index).
            prompt: Task description, prepended to each text, or one per text.
            examples: Judged examples, shown with every text, or one list per text. None, also for one text, queries the
                store, in one search.
            example_format: `"rac"`, `"few_shot"`, or None for the checkpoint's.
            descriptions: Description by label, for some or all; the model reads `label: description`.
            long_texts: Treatment of texts that outgrow the window: `"cut"`, or split into chunks whose scores are
                pooled by their maximum (`"max"`) or mean (`"mean"`).
            labels_at_once: Maximum number of labels that see each other; None for as many as fit.

        Returns:
            One classification a text, also for a single text; labels in the caller's order, and what was cut. No labels
            give an empty one.

        Raises:
            InputError: An argument of the wrong type, or a threshold outside [0, 1].
            WindowOverflowError: Prompt, examples and a label leave no room for a text.
            BackendError: The forward pass or the store failed.
        """
        threshold = checked_share("threshold", threshold)
        multi_label = checked_flag("multi_label", multi_label)
        checked_choice("long_texts", long_texts, _LONG_TEXTS)
        most = None if labels_at_once is None else checked_count("labels_at_once", labels_at_once)
        batch = repaired_texts("texts", [texts] if is_a(texts, str) else texts)
        sets = label_sets(labels, len(batch.texts))
        requests = self._requests(batch.texts, described(sets, descriptions), prompt, examples, example_format)
        groups = [label_groups(request, most) for request in requests]
        chunks = [[parts] if long_texts == "cut" else self._text_chunks(parts) for parts in groups]
        flat = [request for parts in chunks for chunk in parts for request in chunk]
        scored = iter(self._pipeline.score(flat, truncate_side="text"))
        found = [[[next(scored) for _ in chunk] for chunk in parts] for parts in chunks]
        choice = _Choice(multi_label, threshold, long_texts)
        results = [
            _classification(number, names, each, choice, request.examples)
            for number, (names, each, request) in enumerate(zip(sets, found, requests, strict=True))
        ]
        for number in batch.repaired:
            results[number] = replace(results[number], is_repaired=True)
        return results

    async def aclassify(
        self,
        texts: str | Sequence[str],
        labels: Labels | Sequence[Labels],
        threshold: float = 0.5,
        multi_label: bool = True,
        *,
        prompt: str | Sequence[str] | None = None,
        examples: TextExamples | None = None,
        example_format: ExampleFormat | None = None,
        descriptions: Mapping[str, str] | None = None,
        long_texts: LongTexts = "cut",
        labels_at_once: int | None = None,
    ) -> list[Classification]:
        """`classify` in one of a few worker threads, so that the event loop is never blocked.

        Args:
            texts: As for `classify`.
            labels: As for `classify`.
            threshold: As for `classify`.
            multi_label: As for `classify`.
            prompt: As for `classify`.
            examples: As for `classify`.
            example_format: As for `classify`.
            descriptions: As for `classify`.
            long_texts: As for `classify`.
            labels_at_once: As for `classify`.

        Returns:
            As for `classify`.
        """
        return await in_background(
            self.classify,
            texts,
            labels,
            threshold,
            multi_label,
            prompt=prompt,
            examples=examples,
            example_format=example_format,
            descriptions=descriptions,
            long_texts=long_texts,
            labels_at_once=labels_at_once,
        )

    def __call__(
        self,
        texts: str | Sequence[str],
        labels: Labels | Sequence[Labels],
        threshold: float = 0.5,
        multi_label: bool = True,
        *,
        prompt: str | Sequence[str] | None = None,
        examples: TextExamples | None = None,
        example_format: ExampleFormat | None = None,
        descriptions: Mapping[str, str] | None = None,
        long_texts: LongTexts = "cut",
        labels_at_once: int | None = None,
    ) -> list[list[LabelScore]]:
        """`classify` as plain lists; what was cut is logged as a warning.

        Args:
            texts: As for `classify`.
            labels: As for `classify`.
            threshold: As for `classify`.
            multi_label: As for `classify`.
            prompt: As for `classify`.
            examples: As for `classify`.
            example_format: As for `classify`.
            descriptions: As for `classify`.
            long_texts: As for `classify`.
            labels_at_once: As for `classify`.

        Returns:
            One list a text, also for a single text; labels in the caller's order. No labels give an empty list.
        """
        found = self.classify(
            texts,
            labels,
            threshold,
            multi_label,
            prompt=prompt,
            examples=examples,
            example_format=example_format,
            descriptions=descriptions,
            long_texts=long_texts,
            labels_at_once=labels_at_once,
        )
        for number, each in enumerate(found):
            _log_cuts(number, each.truncated, each.truncated_examples)
        return [list(each) for each in found]

    def _requests(
        self,
        texts: Sequence[str],
        sets: Sequence[Sequence[str]],
        prompt: str | Sequence[str] | None,
        examples: TextExamples | None,
        example_format: ExampleFormat | None,
    ) -> list[ScoringRequest]:
        if example_format is not None:
            checked_choice("example_format", example_format, _FORMATS)
        prompts, shown = _prompts(prompt, len(texts)), self._shown(texts, examples)
        return [
            ScoringRequest(text, labels, prompt=description, examples=examples, example_format=example_format)
            for text, labels, description, examples in zip(texts, sets, prompts, shown, strict=True)
        ]

    def _shown(self, texts: Sequence[str], examples: TextExamples | None) -> list[tuple[Example, ...]]:
        """Examples of each text."""
        given = [] if examples is None else checked_list("examples", examples, "examples")
        if not given or not all(item is None or is_a(item, (list, tuple)) for item in given):
            return self._retrieval.shown(texts, None if examples is None else given)
        _check_one_each("examples", given, len(texts))
        found = self._retrieval.recall(texts, needed=[item is None for item in given])
        return [
            recalled.examples if item is None else Example.list_of(item)
            for item, recalled in zip(given, found, strict=True)
        ]


@dataclass(frozen=True)
class _Choice:
    """Choice of labels by their scores."""

    multi_label: bool
    threshold: float
    pooling: LongTexts

    def scores(self, chunks: Sequence[Sequence[float]]) -> list[float]:
        """Pool the scores of a text's chunks; `chunks` holds the logits of each."""
        rows = [probabilities(logits) if self.multi_label else _softmax(logits) for logits in chunks]
        return pooled(rows, self.pooling, exactly_one=not self.multi_label)

    def chosen(self, labels: Sequence[str], scores: Sequence[float]) -> list[LabelScore]:
        """Labels that apply, in their order."""
        every = [
            LabelScore(label, score, index) for index, (label, score) in enumerate(zip(labels, scores, strict=True))
        ]
        if self.multi_label:
            return [each for each in every if each.score >= self.threshold]
        return [max(every, key=lambda each: (each.score, -each.index))] if every else []


def pooled(rows: Sequence[Sequence[float]], pooling: LongTexts, *, exactly_one: bool) -> list[float]:
    """Pool the label scores of a text's chunks.

    Args:
        rows: Scores of each chunk, in label order; one row is the result itself.
        pooling: `"max"`, or `"mean"`.
        exactly_one: Scale the result to a sum of 1.

    Returns:
        One score per label.
    """
    if len(rows) == 1:
        return list(rows[0])
    scores = [max(each) if pooling == "max" else math.fsum(each) / len(each) for each in zip(*rows, strict=True)]
    total = math.fsum(scores)
    return [score / total for score in scores] if exactly_one and total else scores


def _softmax(logits: Sequence[float]) -> list[float]:
    powers = [math.exp(logit - max(logits)) for logit in logits]
    total = math.fsum(powers)
    return [power / total for power in powers]


def _prompts(prompt: str | Sequence[str] | None, num_texts: int) -> Sequence[str]:
    if prompt is None or is_a(prompt, str) or not is_a(prompt, (list, tuple)):
        return ["" if prompt is None else checked_text("`prompt`", prompt)] * num_texts
    prompts = checked_texts("prompt", prompt)
    _check_one_each("prompt", prompts, num_texts)
    return prompts


def _check_one_each(name: str, values: Sequence[object], num_texts: int) -> None:
    if len(values) != num_texts:
        raise InputError(f"`{name}` must hold one for each of the {num_texts} texts, got {len(values)}")


def _classification(
    number: int,
    labels: Sequence[str],
    chunks: Sequence[Sequence[Scored]],
    choice: _Choice,
    examples: tuple[Example, ...],
) -> Classification:
    """Result of one text; `chunks` holds, for each of its chunks, the groups of labels."""
    parts = [part for chunk in chunks for part in chunk]
    cuts = [part.plan.text_truncation for part in parts if part.plan.text_truncation is not None]
    cut = max(cuts, key=lambda each: each.num_lost, default=None)
    scores = choice.scores([[logit for part in chunk for logit in part.logits] for chunk in chunks])
    return Classification(
        hits=tuple(choice.chosen(labels, scores)),
        truncated=None if cut is None else Truncation(number, cut.num_tokens, cut.num_lost),
        truncated_examples=parts[0].plan.truncated_examples,
        examples=examples,
        scores=tuple(scores),
        num_chunks=len(chunks),
    )


def _log_cuts(number: int, text: Truncation | None, examples: Sequence[Truncation]) -> None:
    if text is not None:
        logger.warning("text %d lost %d of its %d tokens", number, text.num_lost, text.num_tokens)
    for cut in examples:
        message = "example %d of text %d lost %d of its %d tokens"
        logger.warning(message, cut.index, number, cut.num_lost, cut.num_tokens)
