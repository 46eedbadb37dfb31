"""Zero-shot classification with any labels in one forward pass."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, get_args

from gliclass_rerank.base import LoadedModel
from gliclass_rerank.calls.background import in_background
from gliclass_rerank.calls.forks import in_sound_thread
from gliclass_rerank.checks import (
    checked_choice,
    checked_flag,
    checked_list,
    checked_share,
    checked_text,
    checked_texts,
    is_a,
    reading,
)
from gliclass_rerank.errors import InputError
from gliclass_rerank.examples.retrieval import Examples
from gliclass_rerank.pipeline import Pipeline, Scored, probabilities
from gliclass_rerank.prompt.examples import ExampleFormat
from gliclass_rerank.prompt.layout import ScoringRequest
from gliclass_rerank.settings import ModelSettings, taking
from gliclass_rerank.types import Classification, Example, LabelScore, Truncation

logger = logging.getLogger(__name__)

Labels = Sequence[str] | Mapping[str, Any]  # Any: a hierarchy of any depth

_SEPARATOR = "."
_FORMATS = get_args(ExampleFormat)


class ZeroShotClassifier(LoadedModel):
    """Zero-shot text classifier over a GLiClass checkpoint; thread-safe, immutable after construction.

    One instance holds one model, does not change after construction and may be shared by any number of threads. Long
    texts are cut at the window's end, labels never; `classify` reports a cut, the others log it as a warning. Labels
    that take more than half of the window beside a long text are spread over several windows.

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
        super().__init__(settings, in_sound_thread(Pipeline, settings))

    def logits(
        self,
        text: str,
        labels: Labels,
        prompt: str | None = None,
        examples: Examples | None = None,
        example_format: ExampleFormat | None = None,
    ) -> list[float]:
        """Compute the raw logits of one text.

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
        texts, label_sets = [checked_text("`text`", text)], [flatten_labels(labels)]
        requests = self._requests(texts, label_sets, prompt, examples, example_format)
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
        prompt: str | None = None,
        examples: Examples | None = None,
        example_format: ExampleFormat | None = None,
    ) -> list[Classification]:
        """Classify texts.

        Args:
            texts: One text or a list of texts.
            labels: Labels for all texts (a list or a hierarchy), or one list of labels per text.
            threshold: Minimum score of a returned label; `multi_label` only.
            multi_label: Any number of labels may apply, each with a probability of its own: the logit's sigmoid, or,
                with the bundled model, that of its margin over the best other label. Else exactly one does (softmax;
                the best is returned, ties by index).
            prompt: Task description, prepended to each text.
            examples: Judged examples, shown with every text. None queries the store for each text, in one search.
            example_format: `"rac"`, `"few_shot"`, or None for the checkpoint's.

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
        batch = (checked_text("`texts`", texts),) if is_a(texts, str) else checked_texts("texts", texts)
        label_sets = _label_sets(labels, len(batch))
        requests = self._requests(batch, label_sets, prompt, examples, example_format)
        choose = partial(_above, threshold, self._pipeline.calibration.label) if multi_label else _best
        scored = self._pipeline.score(requests, truncate_side="text")
        return [
            _classification(number, each, choose(each.logits, request.candidates), request.examples)
            for number, (each, request) in enumerate(zip(scored, requests, strict=True))
        ]

    async def aclassify(
        self,
        texts: str | Sequence[str],
        labels: Labels | Sequence[Labels],
        threshold: float = 0.5,
        multi_label: bool = True,
        *,
        prompt: str | None = None,
        examples: Examples | None = None,
        example_format: ExampleFormat | None = None,
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
        )

    def __call__(
        self,
        texts: str | Sequence[str],
        labels: Labels | Sequence[Labels],
        threshold: float = 0.5,
        multi_label: bool = True,
        *,
        prompt: str | None = None,
        examples: Examples | None = None,
        example_format: ExampleFormat | None = None,
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

        Returns:
            One list a text, also for a single text; labels in the caller's order. No labels give an empty list.
        """
        found = self.classify(
            texts, labels, threshold, multi_label, prompt=prompt, examples=examples, example_format=example_format
        )
        for number, each in enumerate(found):
            _log_cuts(number, each.truncated, each.truncated_examples)
        return [list(each) for each in found]

    def _requests(
        self,
        texts: Sequence[str],
        label_sets: Sequence[Sequence[str]],
        prompt: str | None,
        examples: Examples | None,
        example_format: ExampleFormat | None,
    ) -> list[ScoringRequest]:
        description = "" if prompt is None else checked_text("`prompt`", prompt)
        if example_format is not None:
            checked_choice("example_format", example_format, _FORMATS)
        return [
            ScoringRequest(text, labels, prompt=description, examples=shown, example_format=example_format)
            for text, labels, shown in zip(texts, label_sets, self._retrieval.shown(texts, examples), strict=True)
        ]


def flatten_labels(labels: Labels) -> tuple[str, ...]:
    """Flatten a label hierarchy into dotted names.

    Args:
        labels: List of labels, or mappings nested to any depth with labels or lists of labels as leaves.

    Returns:
        Names such as `topic.product`, in insertion order.

    Raises:
        InputError: `labels` is neither.
    """
    if is_a(labels, Mapping):
        with reading("`labels`"):  # a hierarchy of any depth
            return tuple(_dotted(labels, ()))
    return checked_texts("labels", labels)


def _dotted(node: object, path: tuple[str, ...]) -> Iterable[str]:
    if is_a(node, Mapping):
        for key, value in node.items():  # type: ignore[attr-defined] # a mapping's
            yield from _dotted(value, (*path, checked_text("a key of `labels`", key)))
    elif is_a(node, str):
        yield _SEPARATOR.join((*path, checked_text("one of `labels`", node)))
    else:
        for label in checked_texts("labels", node):
            yield _SEPARATOR.join((*path, label))


def _label_sets(labels: Labels | Sequence[Labels], num_texts: int) -> list[tuple[str, ...]]:
    if not is_a(labels, Sequence) or is_a(labels, (str, bytes)):
        return [flatten_labels(labels)] * num_texts  # type: ignore[arg-type] # what is no list of lists
    items = checked_list("labels", labels, "labels")
    is_per_text = items and all(
        is_a(item, Mapping) or (is_a(item, Sequence) and not is_a(item, (str, bytes))) for item in items
    )
    if not is_per_text:
        return [flatten_labels(items)] * num_texts
    if len(items) != num_texts:
        raise InputError(f"`labels` must hold one list for each of the {num_texts} texts, got {len(items)}")
    return [flatten_labels(item) for item in items]


def _above(
    threshold: float, calibration: tuple[float, float, float] | None, logits: Sequence[float], labels: Sequence[str]
) -> list[LabelScore]:
    if calibration is None:
        scores = probabilities(logits)
    else:
        slope, intercept, absent = calibration
        scores = probabilities(label_margins(logits, absent), (slope, intercept))
    scored = enumerate(zip(labels, scores, strict=True))
    return [LabelScore(label, score, index) for index, (label, score) in scored if score >= threshold]


def label_margins(logits: Sequence[float], absent: float) -> list[float]:
    """Compute the margin of each label over the best other one.

    Args:
        logits: Logit of each label.
        absent: Logit that stands in for the other label where there is none.

    Returns:
        One margin per label.
    """
    if len(logits) < 2:
        return [logit - absent for logit in logits]
    second, best = sorted(logits)[-2:]
    return [logit - (second if logit == best else best) for logit in logits]


def _best(logits: Sequence[float], labels: Sequence[str]) -> list[LabelScore]:
    if not labels:
        return []
    best = max(range(len(labels)), key=lambda index: (logits[index], -index))
    total = math.fsum(math.exp(logit - logits[best]) for logit in logits)
    return [LabelScore(labels[best], 1 / total, best)]


def _classification(
    number: int, scored: Scored, labels: Sequence[LabelScore], examples: tuple[Example, ...]
) -> Classification:
    cut = scored.plan.text_truncation
    return Classification(
        hits=tuple(labels),
        truncated=None if cut is None else Truncation(number, cut.num_tokens, cut.num_lost),
        truncated_examples=scored.plan.truncated_examples,
        examples=examples,
    )


def _log_cuts(number: int, text: Truncation | None, examples: Sequence[Truncation]) -> None:
    if text is not None:
        logger.warning("text %d lost %d of its %d tokens", number, text.num_lost, text.num_tokens)
    for cut in examples:
        message = "example %d of text %d lost %d of its %d tokens"
        logger.warning(message, cut.index, number, cut.num_lost, cut.num_tokens)
