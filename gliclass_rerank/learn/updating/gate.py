"""Gate: a new model must be better on held-out feedback, with confidence, and no worse on public questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from gliclass_rerank.learn.updating.comparing import Comparison, compare
from gliclass_rerank.learn.updating.held_out import Figures
from gliclass_rerank.learn.updating.settings import LearnSettings

JUDGED: Final = "nDCG@10 of judgements"
CLICKED: Final = "IPS of clicks"
PUBLIC: Final = "nDCG@10 of public questions"
# A bootstrap of fewer queries is too sure of itself.
LEAST_QUERIES: Final = 20


@dataclass(frozen=True)
class Verdict:
    """Verdict of the gate.

    Attributes:
        comparisons: Figures of both models.
        reasons: Why the new model is refused; empty if it is accepted.
    """

    comparisons: tuple[Comparison, ...]
    reasons: tuple[str, ...]

    @property
    def is_accepted(self) -> bool:
        """True if nothing speaks against the new model."""
        return not self.reasons

    def to_dict(self) -> dict[str, Any]:  # Any: JSON
        """Convert to JSON values."""
        return {**asdict(self), "is_accepted": self.is_accepted}


def judge(old: Figures, new: Figures, settings: LearnSettings) -> Verdict:
    """Decide about a new model.

    It is accepted if judgements or clicks say that it is better, neither that it is worse, and public questions lose
    no more than `max_regression`. With both kinds of signals each has half of the doubt, so that two chances to be
    lucky are no more than one.

    Args:
        old: Figures of the model in use.
        new: Figures of the new one, on the same queries.
        settings: Settings of learning.

    Returns:
        The verdict.
    """
    pairs = {JUDGED: (old.judged, new.judged), CLICKED: (old.clicked, new.clicked)}
    usable = {name: pair for name, pair in pairs.items() if len(pair[0]) >= LEAST_QUERIES}
    doubt = (1 - settings.confidence) / max(1, len(usable))
    own = [compare(name, *pair, confidence=1 - doubt, seed=settings.seed) for name, pair in usable.items()]
    public = []
    if old.public:
        public.append(compare(PUBLIC, old.public, new.public, confidence=settings.confidence, seed=settings.seed))
    return Verdict((*own, *public), tuple(_reasons(own, public, pairs, settings)))


def _reasons(
    own: Sequence[Comparison],
    public: Sequence[Comparison],
    pairs: dict[str, tuple[Sequence[float], Sequence[float]]],
    settings: LearnSettings,
) -> list[str]:
    found = [f"{each.name} became worse: {each.old:.4f} -> {each.new:.4f}" for each in own if each.high < 0]
    found += [
        f"{each.name} fell by more than {settings.max_regression}: {each.old:.4f} -> {each.new:.4f}"
        for each in public
        if each.gain < -settings.max_regression
    ]
    if not public:
        found.append(
            "the standard library's sources are missing, so nothing tells whether the model got worse elsewhere"
        )
    if not own:
        most = max(len(old) for old, _ in pairs.values())
        found.append(f"only {most} held-out queries have feedback, and the gate needs {LEAST_QUERIES}")
    elif not any(each.low > 0 for each in own):
        bounds = ", ".join(f"{each.name} {each.gain:+.4f}, at least {each.low:+.4f}" for each in own)
        found.append(f"it is not better with {settings.confidence:.0%} confidence ({bounds})")
    return found
