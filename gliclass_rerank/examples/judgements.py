"""What is judged of one text, over time: one example, in which the newer judgement of a label wins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gliclass_rerank.examples.text_identity import text_digest, text_identity
from gliclass_rerank.types import Example


def text_id(text: str) -> str:
    """The id of the example in which all judgements of a text come together.

    Args:
        text: The example's text.

    Returns:
        The same for texts that differ in case and white space only.
    """
    return f"text-{text_digest(text).hex()}"


def are_of_one_text(one: Example, other: Example) -> bool:
    """Whether two examples have the same text, whatever its case and white space."""
    return text_identity(one.text) == text_identity(other.text)


def merged(old: Example, new: Example) -> Example:
    """Join two examples of one text.

    Args:
        old: What was judged before.
        new: What is judged now; of labels that both judge, this is kept.

    Returns:
        An example with the old text, to which the vector in the store belongs, and each label once, newest first.
    """
    return replace(
        old,
        true_labels=_joined(new.true_labels, old.true_labels, new.false_labels),
        false_labels=_joined(new.false_labels, old.false_labels, new.true_labels),
    )


def _joined(newer: Sequence[str], older: Sequence[str], withdrawn: Sequence[str]) -> tuple[str, ...]:
    gone = set(withdrawn)
    return tuple(dict.fromkeys((*newer, *(label for label in older if label not in gone))))
