"""Judged examples within a budget of tokens, so that they never cost the query or leave no room for passages.

The longest parts are cut first, all to one length: an example is a query and some passages, and the passages are what
is long. Examples that do not fit even so are left out from the end of the list, where the least similar ones are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gliclass_rerank.inputs.examples import ExampleFormat
from gliclass_rerank.inputs.layout import Ask, PromptLayout
from gliclass_rerank.types import Example, Truncation


def fit_examples(layout: PromptLayout, ask: Ask, max_tokens: int) -> tuple[Ask, tuple[Truncation, ...]]:
    """Cut an ask's examples.

    Args:
        layout: Writes them, and knows their length.
        ask: What is asked; not changed.
        max_tokens: How many tokens the examples may take, markers included; below 1 leaves none.

    Returns:
        The ask with shorter or fewer examples, and which of its examples lost how many tokens, ascending by index; one
        that was left out has lost them all.
    """
    if not ask.examples:
        return ask, ()
    bare = _num_tokens(layout, replace(ask, examples=()))
    if _num_tokens(layout, ask) - bare <= max_tokens:
        return ask, ()
    measured = [_Measured.of(layout, example, ask.example_format) for example in ask.examples]
    for count in range(len(measured), 0, -1):
        shown = measured[:count]
        parts = sum(sum(example.lengths) for example in shown)
        whole = _num_tokens(layout, replace(ask, examples=ask.examples[:count])) - bare
        room = max_tokens - (whole - parts)
        # A cut may split a word differently, so the result is measured; what it is too long by is cut once more.
        while room >= sum(len(example.parts) for example in shown):
            limit = _level([length for example in shown for length in example.lengths], room)
            fitted = replace(ask, examples=tuple(example.cut(layout, limit) for example in shown))
            excess = _num_tokens(layout, fitted) - bare - max_tokens
            if excess <= 0:
                lost = [example.lost(limit) for example in shown] + [sum(m.lengths) for m in measured[count:]]
                return fitted, tuple(
                    Truncation(index, sum(example.lengths), num_lost)
                    for index, (example, num_lost) in enumerate(zip(measured, lost, strict=True))
                    if num_lost
                )
            room -= excess
    everything = tuple(Truncation(index, sum(m.lengths), sum(m.lengths)) for index, m in enumerate(measured))
    return replace(ask, examples=()), everything


@dataclass(frozen=True)
class _Measured:
    """An example with the parts that are shown, its text first, and their tokens."""

    example: Example
    parts: tuple[str, ...]
    lengths: tuple[int, ...]

    @classmethod
    def of(cls, layout: PromptLayout, example: Example, example_format: ExampleFormat) -> _Measured:
        # The few-shot format never shows false labels.
        shown = example.false_labels if example_format == "rac" else ()
        parts = (example.text, *example.true_labels, *shown)
        return cls(example, parts, tuple(map(len, layout.candidates(parts))))

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
    """The greatest length to which all can be cut so that together they have at most `room`."""
    left = room
    for position, length in enumerate(sorted(lengths)):
        remaining = len(lengths) - position
        if length * remaining > left:
            return left // remaining
        left -= length
    return max(lengths)


def _num_tokens(layout: PromptLayout, ask: Ask) -> int:
    return len(layout.query_block(ask).ids)
