"""Judgements of one text: merged into one example, in which the newest judgement of a label wins."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from gliclass_rerank.examples.text_identity import text_digest, text_identity
from gliclass_rerank.types import Example, Hit, Judged, StageHit

_PLACES: Final[dict[Judged | None, int]] = {"relevant": 0, None: 1, "irrelevant": 2}
_HitT = TypeVar("_HitT", Hit, StageHit)


@dataclass(frozen=True)
class Recalled:
    """Part of a store that concerns one query.

    Attributes:
        examples: Examples to show, most similar first.
        carried: Examples of similar queries that judge one of the passages, most similar first; not shown.
        log_odds: What each passage gains or loses by them; empty without any.
        verdicts: Judgements of this very query, by the passage's normalised text.
    """

    examples: tuple[Example, ...] = ()
    carried: tuple[Example, ...] = ()
    log_odds: tuple[float, ...] = ()
    verdicts: Mapping[str, Judged] = field(default_factory=dict)

    def judged(self, passages: Sequence[str]) -> list[Judged | None]:
        """Look up the judgement of each passage for this very query, regardless of case and white space."""
        if not self.verdicts:
            return [None] * len(passages)
        return [self.verdicts.get(text_identity(passage)) for passage in passages]


def judged_first(hits: Sequence[_HitT], judged: Sequence[Judged | None]) -> tuple[_HitT, ...]:
    """Order hits by judgement, else as they are: relevant, none, irrelevant; `judged` by the hits' `index`."""
    marked = [hit if (verdict := judged[hit.index]) is None else hit.as_judged(verdict) for hit in hits]
    return tuple(sorted(marked, key=lambda hit: _PLACES[hit.judged]))


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
