"""Candidates that are probably relevant although nobody has judged them: they must not become negatives.

Two signs: a candidate holds (nearly) the words of a relevant passage, or a scorer gives it nearly the score of one
(Moreira et al. 2024, "NV-Retriever", section 3, where the second is called TopK-PercPos).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from gliclass_rerank.errors import ConfigError
from gliclass_rerank.examples.text_identity import text_identity

# Three words in a row are rarely shared by chance, and a change of one word spoils no more than three of them.
_SHINGLE_WORDS: Final = 3

Shingles = frozenset[tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class FalseNegatives:
    """When a candidate is taken for a false negative.

    Attributes:
        duplicate_share: From this share of common word triples on, counted in the text that has fewer, a candidate is
            a near-duplicate of a relevant passage; None keeps near-duplicates.
        score_share: A candidate may score up to this share of the best relevant passage's score; None looks at no
            score. Logits are taken through the sigmoid first, because a share of a negative number means nothing.
    """

    duplicate_share: float | None = 0.8
    score_share: float | None = None

    def __post_init__(self) -> None:
        for name in ("duplicate_share", "score_share"):
            share = getattr(self, name)
            if share is not None and not 0 < share <= 1:
                raise ConfigError(f"`{name}` must be above 0 and at most 1, got {share}")

    def repeats(self, candidate: str, positives: Iterable[Shingles]) -> bool:
        """Whether a candidate nearly repeats a relevant passage or a part of it, or holds it."""
        if self.duplicate_share is None:
            return False
        own = shingles(candidate)
        return any(_overlap(own, other) >= self.duplicate_share for other in positives)

    def score_limit(self, positive_scores: Sequence[float], *, is_logit: bool) -> float:
        """Up to where a candidate may score, on the scale of `comparable`.

        Args:
            positive_scores: Scores of the relevant passages; may be empty.
            is_logit: Whether scores are logits.

        Returns:
            The limit; infinite if no score is looked at or there is no relevant passage.
        """
        if self.score_share is None or not positive_scores:
            return math.inf
        return self.score_share * comparable(max(positive_scores), is_logit=is_logit)


def comparable(score: float, *, is_logit: bool) -> float:
    """A score of which shares can be taken: the sigmoid of a logit, any other score as it is."""
    if not is_logit:
        return score
    # Either branch alone would overflow on one side.
    return 1 / (1 + math.exp(-score)) if score >= 0 else math.exp(score) / (1 + math.exp(score))


def shingles(text: str) -> Shingles:
    """The word triples of a text, case ignored; all its words as one if it has fewer than three."""
    words = text_identity(text).split()
    size = min(_SHINGLE_WORDS, len(words))
    return frozenset(tuple(words[start : start + size]) for start in range(len(words) - size + 1))


def _overlap(first: Shingles, second: Shingles) -> float:
    return len(first & second) / max(min(len(first), len(second)), 1)
