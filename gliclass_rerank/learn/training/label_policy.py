"""Proximal policy optimization for labels (arXiv 2508.07662, made sound).

Every label is a Bernoulli policy with the probability that the classifier shows, sigmoid(logit) once the logits are
calibrated. A rollout samples sets of labels once, under the weights before a step's updates; every update of the step
compares the same actions under old and new weights. All terms are means over labels and samples, so that their weights
keep their meaning for any number of labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from gliclass_rerank.learn.training.ppo_config import PpoConfig, RewardName
from gliclass_rerank.learn.training.ranking_policy import clipped, leave_one_out


@dataclass(frozen=True)
class Rollout:
    """Actions of an item, sampled once and kept.

    Attributes:
        actions: FloatTensor [num_samples, num_labels]. 1 for a label that was predicted.
        log_probabilities: FloatTensor [num_samples, num_labels]. Of the actions when they were sampled.
        rewards: FloatTensor [num_samples, num_labels].
        advantages: FloatTensor [num_samples, num_labels].
        reference: FloatTensor [num_labels]. Logits of the start; None if the divergence has no weight.
    """

    actions: Tensor
    log_probabilities: Tensor
    rewards: Tensor
    advantages: Tensor
    reference: Tensor | None


def policy_logits(logits: Tensor, calibration: tuple[float, float, float] | None) -> Tensor:
    """Logits whose sigmoids are the scores of `label_scores`, so that what is sampled is what a user would see.

    Args:
        logits: FloatTensor [num_labels]. The model's.
        calibration: `ModelConfig.label_calibration`; None leaves them as they are.

    Returns:
        FloatTensor [num_labels].
    """
    if calibration is None:
        return logits
    slope, intercept, absent = calibration
    if len(logits) < 2:
        return slope * (logits - absent) + intercept
    (best, second), (winner, _) = logits.topk(2)
    others = torch.where(torch.arange(len(logits), device=logits.device) == winner, second, best)
    return slope * (logits - others) + intercept


def log_probabilities(logits: Tensor, actions: Tensor) -> Tensor:
    """Log-probability of each label's action; FloatTensor [num_samples, num_labels]."""
    return -functional.binary_cross_entropy_with_logits(logits.expand_as(actions), actions, reduction="none")


def rewards_of(actions: Tensor, targets: Tensor, reward: RewardName) -> Tensor:
    """Rewards in [0, 1].

    Args:
        actions: FloatTensor [num_samples, num_labels].
        targets: FloatTensor [num_labels]. 1 for true labels.
        reward: `"per_label"`, a right action of the label itself; `"f1"` of the set, 1 if rightly empty; `"accuracy"`,
            1 if the whole set is right, which is all that a user says with a thumb.

    Returns:
        FloatTensor [num_samples, num_labels].
    """
    right = (actions == targets).float()
    if reward == "per_label":
        return right
    if reward == "accuracy":
        return right.min(dim=1, keepdim=True).values.expand_as(actions)
    both, sizes = (actions * targets).sum(dim=1), actions.sum(dim=1) + targets.sum()
    f1 = torch.where(sizes > 0, 2 * both / sizes.clamp(min=1), 1.0)
    return f1[:, None].expand_as(actions)


def rollout(
    logits: Tensor, targets: Tensor, reference: Tensor | None, config: PpoConfig, *, baseline: float, seed: int
) -> Rollout:
    """Sample actions under the present weights, and judge them.

    Args:
        logits: FloatTensor [num_labels].
        targets: FloatTensor [num_labels]. 1 for true labels.
        reference: FloatTensor [num_labels]. Logits of the start; None for none.
        config: Settings.
        baseline: Running mean of rewards, used by the baseline of that name.
        seed: Seed of the actions.

    Returns:
        The rollout.
    """
    logits = logits.detach()
    chances = torch.rand((config.samples, len(logits)), generator=torch.Generator().manual_seed(seed))
    actions = (chances.to(logits.device) < logits.sigmoid()).float()
    rewards = rewards_of(actions, targets, config.reward)
    if config.baseline == "leave_one_out":
        advantages = leave_one_out(rewards)
    else:
        advantages = rewards - (baseline if config.baseline == "running" else 0.0)
    return Rollout(actions, log_probabilities(logits, actions), rewards, advantages, reference)


def ppo_loss(logits: Tensor, known: Rollout, config: PpoConfig) -> Tensor:
    """Loss of an item under new weights.

    Args:
        logits: FloatTensor [num_labels].
        known: Rollout of the item.
        config: Settings.

    Returns:
        FloatTensor [].
    """
    now = log_probabilities(logits, known.actions)
    gain = clipped(now - known.log_probabilities, known.advantages, config.clip)
    if config.gamma:
        # Sure actions weigh less; the weight itself is not learned.
        gain = gain * (1 - now.detach().exp()) ** config.gamma
    loss = -gain.mean()
    if config.kl_weight and known.reference is not None:
        loss = loss + config.kl_weight * bernoulli_kl(logits, known.reference).mean()
    if config.entropy_weight:
        loss = loss - config.entropy_weight * entropy(logits).mean()
    return loss


def bernoulli_kl(logits: Tensor, reference: Tensor) -> Tensor:
    """Divergence of each label's policy from the start's: the mean of the k3 estimator over both actions, exactly."""
    probability = logits.sigmoid()
    return probability * (functional.logsigmoid(logits) - functional.logsigmoid(reference)) + (1 - probability) * (
        functional.logsigmoid(-logits) - functional.logsigmoid(-reference)
    )


def entropy(logits: Tensor) -> Tensor:
    """Entropy of each label's policy, in nats."""
    return functional.binary_cross_entropy_with_logits(logits, logits.sigmoid(), reduction="none")
