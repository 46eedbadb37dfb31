"""Arguments of upstream's pipelines: one value for all texts, or one per text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gliclass_rerank.checks import checked_count, checked_list, checked_share, checked_text, checked_texts, is_a
from gliclass_rerank.errors import InputError, shown
from gliclass_rerank.prompt.examples import ExampleFormat
from gliclass_rerank.prompt.label_sets import Labels, label_sets
from gliclass_rerank.types import Example

Given = Sequence[Mapping[str, Any] | Example]  # Any: upstream's JSON-like examples

_MULTI_LABEL: Final = {"multi": True, "multi-label": True, "single": False, "single-label": False}


@dataclass(frozen=True)
class PipelineCall:
    """Texts to classify with what belongs to each.

    Attributes:
        texts: The texts.
        labels: Flat labels of each.
        multi_label: Any number of labels may apply, else exactly one.
        thresholds: Minimum score of a returned label.
        prompts: Task description, possibly empty.
        examples: Judged examples of each; None where none were given.
        example_format: Format of the examples.
    """

    texts: Sequence[str]
    labels: Sequence[tuple[str, ...]]
    multi_label: Sequence[bool]
    thresholds: Sequence[float]
    prompts: Sequence[str]
    examples: Sequence[Given | None]
    example_format: ExampleFormat | None

    @classmethod
    def of(
        cls,
        texts: object,
        labels: Labels | Sequence[Labels],
        separator: str,
        *,
        multi_label: bool,
        threshold: object,
        classification_type: object,
        prompt: object,
        examples: object,
        rac_examples: object,
    ) -> PipelineCall:
        """Read a call's arguments; an `InputError` names the one that is wrong."""
        batch = (checked_text("`texts`", texts),) if is_a(texts, str) else checked_texts("texts", texts)
        count = len(batch)
        if _is_given(examples) and _is_given(rac_examples):
            raise InputError("`examples` and `rac_examples` cannot be shown together, got both")
        kinds = _each("classification_type", classification_type, count)
        name, given = ("rac_examples", rac_examples) if _is_given(rac_examples) else ("examples", examples)
        return cls(
            texts=batch,
            labels=label_sets(labels, count, separator),
            multi_label=[multi_label if kind is None else is_multi_label(kind) for kind in kinds],
            thresholds=[checked_share("threshold", each) for each in _each("threshold", threshold, count)],
            prompts=["" if each is None else checked_text("`prompt`", each) for each in _each("prompt", prompt, count)],
            examples=_examples(name, given, count),
            example_format=("rac" if name == "rac_examples" else "few_shot") if _is_given(given) else None,
        )

    def part(self, first: int, count: int) -> PipelineCall:
        """Some of the texts, in their order."""
        return self.taken(range(first, min(first + count, len(self.texts))))

    def taken(self, indices: Sequence[int], texts: Sequence[str] | None = None) -> PipelineCall:
        """The texts at these positions, each as often as it is named, or others in their places."""
        lists = ("texts", "labels", "multi_label", "thresholds", "prompts", "examples")
        values: dict[str, Any] = {name: [getattr(self, name)[index] for index in indices] for name in lists}
        if texts is not None:
            values["texts"] = texts
        return PipelineCall(**values, example_format=self.example_format)


def is_multi_label(classification_type: object) -> bool:
    """Read a `classification_type`: `"multi-label"` or `"single-label"`, in any of upstream's spellings."""
    name = classification_type.strip().lower().replace("_", "-") if isinstance(classification_type, str) else None
    if name not in _MULTI_LABEL:
        raise InputError(
            f"`classification_type` must be 'multi-label' or 'single-label', got {shown(classification_type)}"
        )
    return _MULTI_LABEL[name]


def checked_sizes(text_chunk_size: object, text_chunk_overlap: object, labels_chunk_size: object) -> tuple[int, ...]:
    """Validate the sizes of chunks: text in characters, overlap in characters, and labels."""
    size, labels = (
        checked_count("text_chunk_size", text_chunk_size),
        checked_count("labels_chunk_size", labels_chunk_size),
    )
    overlap = 0 if text_chunk_overlap == 0 else checked_count("text_chunk_overlap", text_chunk_overlap)
    if overlap >= size:
        raise InputError(f"`text_chunk_overlap` must be less than `text_chunk_size` {size}, got {overlap}")
    return size, overlap, labels


def _is_given(examples: object) -> bool:
    return examples is not None and not (is_a(examples, (list, tuple)) and not examples)


def _each(name: str, value: object, count: int) -> Sequence[object]:
    """A value for each text."""
    if not is_a(value, (list, tuple)):
        return [value] * count
    values = checked_list(name, value, "values")
    if len(values) != count:
        raise InputError(f"`{name}` must hold one for each of the {count} texts, got {len(values)}")
    return values


def _examples(name: str, given: object, count: int) -> list[Given | None]:
    if given is None:
        return [None] * count
    items = checked_list(name, given, "examples")
    if items and all(item is None or is_a(item, (list, tuple)) for item in items):
        return [[] if item is None else item for item in _each(name, items, count)]  # type: ignore[misc] # lists
    return [[item for item in items if item is not None]] * count
