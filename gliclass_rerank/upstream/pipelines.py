"""Upstream's two pipelines: results as dicts, one list or tree per text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from gliclass_rerank.checks import checked_count
from gliclass_rerank.classifier import ZeroShotClassifier
from gliclass_rerank.model.label_scores import LongTexts, chosen_labels, pooled
from gliclass_rerank.prompt.label_sets import SEPARATOR, Labels, flatten_labels
from gliclass_rerank.upstream.arguments import Given, PipelineCall, checked_sizes, is_multi_label
from gliclass_rerank.upstream.loading import DEFAULT_MAX_LENGTH, load_classifier

Result = list[dict[str, Any]] | dict[str, Any]  # Any: labels, scores, or subtrees


class _Pipeline:
    """Common base of both pipelines.

    Args:
        model: Folder or name of a checkpoint, `GLiClassModel`, `ZeroShotClassifier`, or a network of `gliclass`.
        tokenizer: Tokenizer, or its name or folder; None for the checkpoint's.
        max_classes: Without effect, as in upstream.
        max_length: Longest sequence in tokens.
        classification_type: `"multi-label"` or `"single-label"`.
        device: Torch device; one of cuda becomes the CPU where there is none.
        progress_bar: Show progress, on a terminal.
        label_separator: Text between the names of two levels of a label tree.

    Attributes:
        classifier: The classifier behind the pipeline.
        progress_bar: As given.
        label_separator: As given.
    """

    def __init__(
        self,
        model: object,
        tokenizer: object = None,
        max_classes: int = 25,
        max_length: int = DEFAULT_MAX_LENGTH,
        classification_type: str = "multi-label",
        device: str | torch.device = "cuda:0",
        progress_bar: bool = True,
        label_separator: str = SEPARATOR,
    ) -> None:
        self._multi_label = is_multi_label(classification_type)
        self.max_classes = max_classes
        self.progress_bar = progress_bar
        self.label_separator = label_separator
        self.classifier: ZeroShotClassifier = load_classifier(model, tokenizer, device=device, max_length=max_length)

    def flatten_labels(self, labels: Labels) -> list[str]:
        """Flatten a label tree to names such as `topic.product`."""
        return list(flatten_labels(labels, self.label_separator))

    def _read(self, texts: object, labels: Labels | Sequence[Labels], **arguments: object) -> PipelineCall:
        return PipelineCall.of(texts, labels, self.label_separator, multi_label=self._multi_label, **arguments)

    def _parts(self, texts: PipelineCall, batch_size: int) -> Iterator[PipelineCall]:
        """Batches of texts, with a progress bar."""
        from tqdm import tqdm

        size = checked_count("batch_size", batch_size)
        # disable=None: no bar where stderr is not a terminal
        for first in tqdm(range(0, len(texts.texts), size), disable=None if self.progress_bar else True):
            yield texts.part(first, size)

    def _scores(
        self, texts: PipelineCall, *, long_texts: LongTexts = "cut", labels_at_once: int | None = None
    ) -> list[tuple[float, ...]]:
        """Scores of all labels of each text."""
        found: dict[int, tuple[float, ...]] = {}
        for multi_label in dict.fromkeys(texts.multi_label):
            indices = [index for index, each in enumerate(texts.multi_label) if each is multi_label]
            some = texts.taken(indices)
            results = self.classifier.classify(
                some.texts,
                some.labels,
                multi_label=multi_label,
                prompt=some.prompts,
                examples=some.examples,
                example_format=some.example_format,
                long_texts=long_texts,
                labels_at_once=labels_at_once,
            )
            found.update(zip(indices, (result.scores for result in results), strict=True))
        return [found[index] for index in range(len(texts.texts))]


class ZeroShotClassificationPipeline(_Pipeline):
    """Upstream's `ZeroShotClassificationPipeline`: `pipeline(texts, labels)`."""

    def __call__(
        self,
        texts: str | Sequence[str],
        labels: Labels | Sequence[Labels],
        threshold: float | Sequence[float] = 0.5,
        batch_size: int = 8,
        classification_type: str | Sequence[str] | None = None,
        rac_examples: Given | Sequence[Given | None] | None = None,
        examples: Given | Sequence[Given | None] | None = None,
        prompt: str | Sequence[str] | None = None,
        return_hierarchical: bool = False,
    ) -> list[Result]:
        """Classify texts.

        Args:
            texts: One text or a list of texts.
            labels: A list or tree of labels for all texts, or one per text.
            threshold: Minimum score of a label where several may apply; also per text.
            batch_size: Texts between two steps of the progress bar; forward passes have the classifier's
                `batch_tokens`.
            classification_type: `"multi-label"` or `"single-label"`, also per text; None for the pipeline's.
            rac_examples: Judged examples in the format of the RAC checkpoints; also per text.
            examples: Judged examples in the few-shot format; also per text.
            prompt: Task description; also per text.
            return_hierarchical: Return all scores in the shape of `labels`.

        Returns:
            For each text its labels, `{"label", "score"}`, in the caller's order, or a tree of scores.

        Raises:
            InputError: An argument has the wrong type, or a list not one item per text.
        """
        given = self._read(
            texts,
            labels,
            threshold=threshold,
            classification_type=classification_type,
            prompt=prompt,
            examples=examples,
            rac_examples=rac_examples,
        )
        scores = [row for part in self._parts(given, batch_size) for row in self._scores(part)]
        if return_hierarchical:
            return _trees(labels, scores)
        return [_chosen(given, index, row) for index, row in enumerate(scores)]


class ZeroShotClassificationWithChunkingPipeline(_Pipeline):
    """Upstream's pipeline for long texts and many labels; results are sorted by score.

    Args:
        model: As for `ZeroShotClassificationPipeline`.
        tokenizer: As for `ZeroShotClassificationPipeline`.
        max_classes: As for `ZeroShotClassificationPipeline`.
        max_length: As for `ZeroShotClassificationPipeline`.
        classification_type: As for `ZeroShotClassificationPipeline`.
        device: As for `ZeroShotClassificationPipeline`.
        progress_bar: As for `ZeroShotClassificationPipeline`.
        text_chunk_size: Longest chunk in characters; one that outgrows the window is split again.
        text_chunk_overlap: Characters that two chunks share.
        labels_chunk_size: Maximum number of labels that see each other.
        label_separator: As for `ZeroShotClassificationPipeline`.
    """

    def __init__(
        self,
        model: object,
        tokenizer: object = None,
        max_classes: int = 25,
        max_length: int = DEFAULT_MAX_LENGTH,
        classification_type: str = "multi-label",
        device: str | torch.device = "cuda:0",
        progress_bar: bool = True,
        text_chunk_size: int = 8192,
        text_chunk_overlap: int = 256,
        labels_chunk_size: int = 8,
        label_separator: str = SEPARATOR,
    ) -> None:
        self._sizes = checked_sizes(text_chunk_size, text_chunk_overlap, labels_chunk_size)
        super().__init__(
            model, tokenizer, max_classes, max_length, classification_type, device, progress_bar, label_separator
        )

    def __call__(
        self,
        texts: str | Sequence[str],
        labels: Labels | Sequence[Labels],
        threshold: float | Sequence[float] = 0.5,
        batch_size: int = 8,
        labels_chunk_size: int | None = None,
        text_chunk_size: int | None = None,
        text_chunk_overlap: int | None = None,
        rac_examples: Given | Sequence[Given | None] | None = None,
        examples: Given | Sequence[Given | None] | None = None,
        prompt: str | Sequence[str] | None = None,
        return_hierarchical: bool = False,
    ) -> list[Result]:
        """Classify texts in chunks, whose scores are pooled by their maximum.

        Args:
            texts: One text or a list of texts.
            labels: A list or tree of labels for all texts, or one per text.
            threshold: Minimum score of a label where several may apply; also per text.
            batch_size: Texts between two steps of the progress bar.
            labels_chunk_size: For this call; None for the pipeline's.
            text_chunk_size: For this call; None for the pipeline's.
            text_chunk_overlap: For this call; None for the pipeline's.
            rac_examples: Judged examples in the format of the RAC checkpoints; also per text.
            examples: Judged examples in the few-shot format; also per text.
            prompt: Task description; also per text.
            return_hierarchical: Return all scores in the shape of `labels`.

        Returns:
            For each text its labels, `{"label", "score"}`, best first, or a tree of scores.

        Raises:
            InputError: An argument has the wrong type, or a list not one item per text.
        """
        given = self._read(
            texts,
            labels,
            threshold=threshold,
            classification_type=None,
            prompt=prompt,
            examples=examples,
            rac_examples=rac_examples,
        )
        called = (text_chunk_size, text_chunk_overlap, labels_chunk_size)
        sizes = [own if size is None else size for own, size in zip(self._sizes, called, strict=True)]
        size, overlap, at_once = checked_sizes(*sizes)
        scores = [row for part in self._parts(given, batch_size) for row in self._pooled(part, size, overlap, at_once)]
        if return_hierarchical:
            return _trees(labels, scores)
        found = [_chosen(given, index, row) for index, row in enumerate(scores)]
        return [sorted(each, key=lambda label: -label["score"]) for each in found]

    def _pooled(self, texts: PipelineCall, size: int, overlap: int, labels_at_once: int) -> Iterator[Sequence[float]]:
        chunks = [_chunks(text, size, overlap) for text in texts.texts]
        indices = [index for index, some in enumerate(chunks) for _ in some]
        flat = texts.taken(indices, texts=[chunk for some in chunks for chunk in some])
        rows = iter(self._scores(flat, long_texts="max", labels_at_once=labels_at_once))
        for some, multi_label in zip(chunks, texts.multi_label, strict=True):
            yield pooled([next(rows) for _ in some], "max", exactly_one=not multi_label)


def _chunks(text: str, size: int, overlap: int) -> list[str]:
    """Chunks of `size` characters, each beginning `overlap` before the end of the one before."""
    starts = range(0, max(len(text) - overlap, 1), size - overlap)
    return [text[start : start + size] for start in starts]


def _chosen(texts: PipelineCall, index: int, scores: Sequence[float]) -> list[dict[str, Any]]:
    """Labels of a text that apply, in their order."""
    chosen = chosen_labels(
        texts.labels[index], scores, multi_label=texts.multi_label[index], threshold=texts.thresholds[index]
    )
    return [{"label": each.label, "score": each.score} for each in chosen]


def _trees(labels: Labels | Sequence[Labels], scores: Sequence[Sequence[float]]) -> list[Result]:
    """Scores of each text in the shape of its labels."""
    if isinstance(labels, Mapping) or not labels or isinstance(labels[0], str):
        return [_tree(labels, iter(row)) for row in scores]
    return [_tree(own, iter(row)) for own, row in zip(labels, scores, strict=True)]


def _tree(node: object, scores: Iterator[float]) -> dict[str, Any]:
    if isinstance(node, Mapping):
        return {key: _tree(value, scores) for key, value in node.items()}
    names = [node] if isinstance(node, str) else list(node)  # type: ignore[call-overload] # a list of labels
    return {name: next(scores) for name in names}
