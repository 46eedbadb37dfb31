"""Detection of false negatives, unjudged candidates that are probably relevant.

Two signs: a candidate nearly repeats a relevant passage's words, or scores nearly as high (TopK-PercPos in Moreira et
al. 2024, "NV-Retriever", section 3).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from gliclass_rerank.errors import ConfigError
from gliclass_rerank.examples.text_identity import text_identity
from gliclass_rerank.model.probability import probabilities

# Word triples are rarely shared by chance, and changing a word affects at most three of them.
_SHINGLE_WORDS: Final = 3

Shingles = frozenset[tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class FalseNegatives:
    """Thresholds of false negatives.

    Attributes:
        duplicate_share: Share of common word triples, in the shorter text, of a near-duplicate of a relevant passage;
            None keeps near-duplicates.
        score_share: Maximum share of the best relevant passage's score, logits through the sigmoid; None ignores
            scores.
    """

    duplicate_share: float | None = 0.8
    score_share: float | None = None

    def __post_init__(self) -> None:
        for name in ("duplicate_share", "score_share"):
            share = getattr(self, name)
            if share is not None and not 0 < share <= 1:
                raise ConfigError(f"`{name}` must be above 0 and at most 1, got {share}")

    def repeats(self, candidate: str, positives: Iterable[Shingles]) -> bool:
        """Test for near-repetition of a relevant passage, or part of it, in either direction."""
        if self.duplicate_share is None:
            return False
        own = shingles(candidate)
        return any(_overlap(own, other) >= self.duplicate_share for other in positives)

    def score_limit(self, positive_scores: Sequence[float], *, is_logit: bool) -> float:
        """Maximum score of a candidate on the scale of `comparable`; infinite without a limit or relevant passage."""
        if self.score_share is None or not positive_scores:
            return math.inf
        return self.score_share * comparable(max(positive_scores), is_logit=is_logit)


def comparable(score: float, *, is_logit: bool) -> float:
    """Score on a ratio scale: the sigmoid of a logit, any other score unchanged."""
    return probabilities([score])[0] if is_logit else score


def shingles(text: str) -> Shingles:
    """Word triples of a text, case ignored; a text of fewer than three words is one shingle."""
    words = text_identity(text).split()
    size = min(_SHINGLE_WORDS, len(words))
    return frozenset(tuple(words[start : start + size]) for start in range(len(words) - size + 1))


def _overlap(first: Shingles, second: Shingles) -> float:
    return len(first & second) / max(min(len(first), len(second)), 1)
