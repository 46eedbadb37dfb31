"""Settings of a PPO stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gliclass_rerank.errors import ConfigError
from gliclass_rerank.learn.training.config_checks import check_at_least, check_positive

RewardName = Literal["per_label", "f1", "accuracy"]
BaselineName = Literal["leave_one_out", "running", "none"]


@dataclass(frozen=True, kw_only=True)
class PpoConfig:
    """PPO stage of classification sources, `objective: ppo`.

    Attributes:
        reward: `per_label`, each label's own action; `f1` of the predicted set; `accuracy`, 1 if the whole set is
            right.
        samples: Sets of labels sampled per text and step.
        updates: Updates of the weights per step, all with the same actions.
        clip: Largest rewarded change of an action's probability, as a share.
        baseline: Baseline of the rewards: mean of the other samples, running mean, or none.
        kl_weight: Weight of the divergence from the start; 0 switches it off.
        entropy_weight: Weight of the entropy; 0 switches it off.
        gamma: Focal exponent: an action's weight is (1 - its probability) to this power; 0 for none.
    """

    reward: RewardName = "per_label"
    samples: int = 4
    updates: int = 3
    clip: float = 0.2
    baseline: BaselineName = "leave_one_out"
    kl_weight: float = 0.1
    entropy_weight: float = 0.0
    gamma: float = 0.0

    def __post_init__(self) -> None:
        check_at_least("samples", self.samples, 1)
        check_at_least("updates", self.updates, 1)
        check_positive("clip", self.clip)
        for name in ("kl_weight", "entropy_weight", "gamma"):
            check_at_least(name, getattr(self, name), 0)
        if self.baseline == "leave_one_out" and self.samples < 2:
            raise ConfigError(f"the baseline `leave_one_out` needs at least 2 `samples`, got {self.samples}")
