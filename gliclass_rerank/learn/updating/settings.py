"""Settings of learning from a feedback log."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from gliclass_rerank.checks import checked_choice, checked_count, checked_share, of_settings
from gliclass_rerank.errors import ConfigError, shown
from gliclass_rerank.learn.training.config_checks import check_at_least, check_positive

LearnObjective = Literal["listwise", "policy"]
Propensities = Literal["estimated", "none"]

_OBJECTIVES: Final = ("listwise", "policy")
_PROPENSITIES: Final = ("estimated", "none")


@dataclass(frozen=True, kw_only=True)
class LearnSettings:
    """Settings of learning.

    Attributes:
        objective: `"listwise"`, softmax cross-entropy on judgements and clicks; `"policy"`, the Plackett-Luce policy
            gradient of nDCG, clipped against the start.
        propensities: `"estimated"` divides a click by the estimated probability that its place was looked at; `"none"`
            takes clicks as they are.
        epochs: Passes over the queries.
        queries_per_step: Queries per step.
        learning_rate: Peak rate of the layers.
        head_learning_rate: Peak rate of the head.
        kl_weight: Weight of the divergence from the start's softmax over each list.
        clip: Largest change of a choice's probability that `"policy"` still rewards, as a share.
        trained_layers: Number of highest layers that learn, with the head; the rest is frozen.
        max_passages: Passages per query: those with a signal, then the best of those shown without.
        max_passage_words: Words of a passage that training reads.
        held_out: Share of the queries that the gate keeps for itself.
        confidence: Probability with which the new model must be better.
        max_regression: Loss of nDCG@10 on the public questions that the gate accepts.
        max_gate_queries: Held-out queries that are measured.
        keep_versions: Versions kept, the current one included.
        seed: Seed of every random choice.
    """

    objective: LearnObjective = "listwise"
    propensities: Propensities = "estimated"
    epochs: float = 4.0
    queries_per_step: int = 8
    learning_rate: float = 1e-4
    head_learning_rate: float = 1e-4
    kl_weight: float = 0.3
    clip: float = 0.2
    trained_layers: int = 3
    max_passages: int = 10
    max_passage_words: int = 120
    held_out: float = 0.2
    confidence: float = 0.95
    max_regression: float = 0.02
    max_gate_queries: int = 400
    keep_versions: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        with of_settings():
            checked_choice("objective", self.objective, _OBJECTIVES)
            checked_choice("propensities", self.propensities, _PROPENSITIES)
            for name in ("queries_per_step", "trained_layers", "max_passage_words", "max_gate_queries"):
                checked_count(name, getattr(self, name))
            for name in ("max_passages", "keep_versions"):
                if checked_count(name, getattr(self, name)) < 2:
                    raise ConfigError(f"`{name}` must be at least 2, got {getattr(self, name)}")
            for name in ("held_out", "confidence", "max_regression"):
                checked_share(name, getattr(self, name))
        for name in ("held_out", "confidence"):
            if not 0 < getattr(self, name) < 1:
                raise ConfigError(f"`{name}` must be above 0 and below 1, got {shown(getattr(self, name))}")
        for name in ("epochs", "learning_rate", "clip"):
            _check_number(name, getattr(self, name))
            check_positive(name, getattr(self, name))
        for name in ("head_learning_rate", "kl_weight", "seed"):
            _check_number(name, getattr(self, name))
            check_at_least(name, getattr(self, name), 0)

    def to_dict(self) -> dict[str, Any]:  # Any: JSON
        """Convert to JSON values."""
        return asdict(self)


def _check_number(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ConfigError(f"`{name}` must be a number, got {shown(value)}")
