"""Judged examples as prompt pieces.

`rac` (v2.0-rac checkpoints) follows the text and shows true and false labels; `few_shot` (checkpoints with an example
token) closes the prompt and shows true labels only. Spaces are upstream's, double ones included. Order is the caller's;
examples without true labels are kept, unlike in upstream.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from gliclass_rerank.prompt.pieces import (
    END_EXAMPLE,
    EXAMPLE,
    FALSE_LABEL,
    SEP,
    TRUE_LABEL,
    Marker,
    Piece,
    Text,
)
from gliclass_rerank.types import Example

ExampleFormat = Literal["rac", "few_shot"]

_SPACE = Text(" ", is_ours=True)


def rac_pieces(examples: Sequence[Example]) -> list[Piece]:
    """` <<EXAMPLE>> example <<TRUE_LABEL>> a <<FALSE_LABEL>> b <</EXAMPLE>>`, from the space after the text on."""
    pieces: list[Piece] = []
    for example in examples:
        pieces += [_SPACE, Marker(EXAMPLE), _SPACE, Text(example.text), _SPACE]
        pieces += _labelled(TRUE_LABEL, example.true_labels)
        pieces += [_SPACE, *_labelled(FALSE_LABEL, example.false_labels), _SPACE, Marker(END_EXAMPLE)]
    return pieces


def _labelled(marker: str, labels: Sequence[str]) -> Iterator[Piece]:
    for position, label in enumerate(labels):
        if position:
            yield _SPACE
        yield Marker(marker)
        yield _SPACE
        yield Text(label)


def few_shot_pieces(examples: Sequence[Example]) -> list[Piece]:
    r"""`<<EXAMPLE>>example \nLabels:\n a, b` for each, then one `<<SEP>>`; nothing without examples."""
    if not examples:
        return []
    pieces: list[Piece] = []
    for example in examples:
        pieces += [Marker(EXAMPLE), Text(example.text), Text(" \nLabels:\n ", is_ours=True)]
        pieces.append(Text(", ".join(example.true_labels)))
    return [*pieces, Marker(SEP)]
