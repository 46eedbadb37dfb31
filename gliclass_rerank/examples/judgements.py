"""Judgements of one text: merged into one example, in which the newest judgement of a label wins."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from gliclass_rerank.examples.text_identity import text_digest, text_identity
from gliclass_rerank.types import Example, Judged

_PLACES: Final[dict[Judged | None, int]] = {"relevant": 0, None: 1, "irrelevant": 2}
_SCORES: Final[dict[Judged | None, float]] = {"relevant": 1.0, "irrelevant": 0.0}


@dataclass(frozen=True)
class Recalled:
    """Part of a store that concerns one query.

    Attributes:
        examples: Examples to show, most similar first.
        verdicts: Judgements of this very query, by the passage's normalised text.
    """

    examples: tuple[Example, ...] = ()
    verdicts: Mapping[str, Judged] = field(default_factory=dict)

    def judged(self, passages: Iterable[str]) -> list[Judged | None]:
        """Look up passages, regardless of case and white space; an empty list if this query was never judged."""
        return [self.verdicts.get(text_identity(passage)) for passage in passages] if self.verdicts else []


def place(judged: Judged | None) -> int:
    """Sort key of a judgement: relevant, none, irrelevant."""
    return _PLACES[judged]


def judged_score(judged: Judged | None, score: float) -> float:
    """Score of a passage: 1 or 0 if it was judged, else the given one."""
    return _SCORES.get(judged, score)


def verdicts(examples: Iterable[Example]) -> dict[str, Judged]:
    """Read the judgements of one text's examples, by the passage's normalised text; later examples win."""
    found: dict[str, Judged] = {}
    for example in examples:
        found.update((text_identity(label), "irrelevant") for label in example.false_labels)
        found.update((text_identity(label), "relevant") for label in example.true_labels)
    return found


def text_id(text: str, scope: str = "{}") -> str:
    """Id of a text's merged example, independent of case and white space; `scope` is JSON that keeps examples apart."""
    if scope == "{}":
        return f"text-{text_digest(text).hex()}"
    return f"text-{hashlib.sha256(text_digest(text) + scope.encode()).hexdigest()[:32]}"


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
