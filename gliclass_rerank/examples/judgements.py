"""Merging of judgements: one example per text, in which the newest judgement of a label wins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gliclass_rerank.examples.text_identity import text_digest, text_identity
from gliclass_rerank.types import Example


def text_id(text: str) -> str:
    """Id of a text's merged example, independent of case and white space."""
    return f"text-{text_digest(text).hex()}"


def are_of_one_text(one: Example, other: Example) -> bool:
    """Test if two examples have the same text, regardless of case and white space."""
    return text_identity(one.text) == text_identity(other.text)


def merged(old: Example, new: Example) -> Example:
    """Merge two examples of one text; the newer judgement wins.

    The result keeps the old text, to which the stored vector belongs, and each label once, newest first.
    """
    return replace(
        old,
        true_labels=_joined(new.true_labels, old.true_labels, new.false_labels),
        false_labels=_joined(new.false_labels, old.false_labels, new.true_labels),
    )


def _joined(newer: Sequence[str], older: Sequence[str], withdrawn: Sequence[str]) -> tuple[str, ...]:
    gone = set(withdrawn)
    return tuple(dict.fromkeys((*newer, *(label for label in older if label not in gone))))
