"""Token budget of judged examples, so that they displace neither the query nor the passages.

The number of labels (passages, when ranking) per example is capped first. Then the longest parts are cut to one length.
Examples that still do not fit are dropped from the end of the list, the least similar first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gliclass_rerank.prompt.layout import PromptLayout, ScoringRequest
from gliclass_rerank.types import Example, Truncation


def fit_examples(
    layout: PromptLayout, request: ScoringRequest, max_tokens: int
) -> tuple[ScoringRequest, tuple[Truncation, ...]]:
    """Fit a request's examples into a token budget.

    Args:
        layout: Prompt layout, which determines lengths.
        request: Request.
        max_tokens: Budget in tokens, markers included; below 1 leaves no example.

    Returns:
        Request with shorter or fewer examples, and the truncations ascending by example index; dropped labels and
        examples count in full.
    """
    request = replace(request, example_format=layout.example_format(request))
    shown = replace(request, examples=tuple(_with_fewer_labels(example, request) for example in request.examples))
    fitted, cut = _fit_tokens(layout, shown, max_tokens)
    if shown.examples == request.examples:
        return fitted, cut
    lost = {truncation.index: truncation.num_lost for truncation in cut}
    reported = []
    for index, (whole, part) in enumerate(zip(request.examples, shown.examples, strict=True)):
        num_tokens, num_shown = (_Measured.of(layout, example, request).num_tokens for example in (whole, part))
        num_lost = num_tokens - num_shown + lost.get(index, 0)
        if num_lost:
            reported.append(Truncation(index, num_tokens, num_lost))
    return fitted, tuple(reported)


def _with_fewer_labels(example: Example, request: ScoringRequest) -> Example:
    """Keep an example's first labels; if both kinds exceed the limit, half are false ones."""
    if request.max_example_labels is None:
        return example
    most, num_false = request.max_example_labels, len(_shown_false_labels(example, request))
    kept_false = min(num_false, max(most // 2, most - len(example.true_labels)))
    return replace(
        example,
        true_labels=example.true_labels[: most - kept_false],
        false_labels=example.false_labels[:kept_false] if num_false else example.false_labels,
    )


def _shown_false_labels(example: Example, request: ScoringRequest) -> tuple[str, ...]:
    # The few-shot format never shows false labels.
    return example.false_labels if request.example_format == "rac" else ()


def _fit_tokens(
    layout: PromptLayout, request: ScoringRequest, max_tokens: int
) -> tuple[ScoringRequest, tuple[Truncation, ...]]:
    if not request.examples:
        return request, ()
    bare = _num_tokens(layout, replace(request, examples=()))
    if _num_tokens(layout, request) - bare <= max_tokens:
        return request, ()
    measured = [_Measured.of(layout, example, request) for example in request.examples]
    for count in range(len(measured), 0, -1):
        shown = measured[:count]
        parts = sum(example.num_tokens for example in shown)
        whole = _num_tokens(layout, replace(request, examples=request.examples[:count])) - bare
        room = max_tokens - (whole - parts)
        # A cut may split a word differently, so the result is measured and any excess cut once more.
        while room >= sum(len(example.parts) for example in shown):
            limit = _level([length for example in shown for length in example.lengths], room)
            fitted = replace(request, examples=tuple(example.cut(layout, limit) for example in shown))
            excess = _num_tokens(layout, fitted) - bare - max_tokens
            if excess <= 0:
                lost = [example.lost(limit) for example in shown] + [m.num_tokens for m in measured[count:]]
                return fitted, tuple(
                    Truncation(index, example.num_tokens, num_lost)
                    for index, (example, num_lost) in enumerate(zip(measured, lost, strict=True))
                    if num_lost
                )
            room -= excess
    everything = tuple(Truncation(index, m.num_tokens, m.num_tokens) for index, m in enumerate(measured))
    return replace(request, examples=()), everything


@dataclass(frozen=True)
class _Measured:
    """Example with its visible parts, text first, and their token counts."""

    example: Example
    parts: tuple[str, ...]
    lengths: tuple[int, ...]

    @classmethod
    def of(cls, layout: PromptLayout, example: Example, request: ScoringRequest) -> _Measured:
        parts = (example.text, *example.true_labels, *_shown_false_labels(example, request))
        return cls(example, parts, tuple(map(len, layout.tokenizer.encode(parts))))

    @property
    def num_tokens(self) -> int:
        return sum(self.lengths)

    def lost(self, limit: int) -> int:
        return sum(max(0, length - limit) for length in self.lengths)

    def cut(self, layout: PromptLayout, limit: int) -> Example:
        text, *labels = [
            layout.beginning(part, limit) if length > limit else part
            for part, length in zip(self.parts, self.lengths, strict=True)
        ]
        num_true = len(self.example.true_labels)
        return replace(
            self.example,
            text=text,
            true_labels=tuple(labels[:num_true]),
            false_labels=tuple(labels[num_true:]) or self.example.false_labels,
        )


def _level(lengths: Sequence[int], room: int) -> int:
    """Largest length to which all can be cut so that they sum to at most `room`."""
    left = room
    for position, length in enumerate(sorted(lengths)):
        remaining = len(lengths) - position
        if length * remaining > left:
            return left // remaining
        left -= length
    return max(lengths)


def _num_tokens(layout: PromptLayout, request: ScoringRequest) -> int:
    return len(layout.query_block(request).ids)
