"""Gradients of a PPO stage: a step samples actions once and updates the weights several times with them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gliclass_rerank.checkpoint.loading import Checkpoint
from gliclass_rerank.learn.training.batches import Batch, targets_of
from gliclass_rerank.learn.training.config import TrainConfig
from gliclass_rerank.learn.training.gradients import Gradients, items_of
from gliclass_rerank.learn.training.label_policy import Rollout, policy_logits, ppo_loss, rollout
from gliclass_rerank.learn.training.start import load_start
from gliclass_rerank.model.head import ScoringHead

# Weight of a step's rewards in the running baseline.
_FORGETTING = 0.1


class PpoGradients(Gradients):
    """Gradient computation of PPO's clipped objective.

    Args:
        config: Config of the run.
        checkpoint: Trained checkpoint, on its device.
        baseline: Running mean of rewards of a resumed run; None before the first step.

    Attributes:
        baseline: Running mean of rewards; None before the first step.
        reward: Mean reward of the last step's actions.
    """

    def __init__(self, config: TrainConfig, checkpoint: Checkpoint, baseline: float | None = None) -> None:
        super().__init__(config, checkpoint)
        self.baseline, self.reward = baseline, 0.0
        self._calibration = checkpoint.config.label_calibration
        self._rollouts: dict[int, Rollout] = {}
        self._reference: ScoringHead | None = None
        if config.ppo.kl_weight:
            self._reference = load_start(config.start).model.to(checkpoint.model.logit_scale.device)
            self._reference.requires_grad_(False)

    def end_step(self) -> None:
        """Forget the step's actions, and remember their rewards."""
        rewards = [float(known.rewards.mean()) for known in self._rollouts.values()]
        self.reward = sum(rewards) / len(rewards)
        before = self.reward if self.baseline is None else self.baseline
        self.baseline = before + _FORGETTING * (self.reward - before)
        self._rollouts.clear()

    def _loss(self, chunk: Sequence[Batch]) -> Tensor:
        items, config = items_of(chunk), self._config.ppo
        policies = self._policies(self._model, chunk)
        if id(items[0][0]) not in self._rollouts:
            references = self._references(chunk, len(items))
            for (item, order), logits, reference in zip(items, policies, references, strict=True):
                targets = targets_of(item.question.grades, order, logits.device)
                self._rollouts[id(item)] = rollout(
                    logits, targets, reference, config, baseline=self.baseline or 0.0, seed=item.question.seed
                )
        return torch.stack(
            [
                ppo_loss(logits, self._rollouts[id(item)], config)
                for (item, _), logits in zip(items, policies, strict=True)
            ]
        ).sum()

    def _references(self, chunk: Sequence[Batch], count: int) -> Sequence[Tensor | None]:
        """The start's logits of each item."""
        if self._reference is None:
            return [None] * count
        with torch.no_grad():
            return self._policies(self._reference, chunk)

    def _policies(self, model: ScoringHead, chunk: Sequence[Batch]) -> list[Tensor]:
        """Calibrated logits of each item under a model."""
        outputs = self._outputs(model, chunk, with_vectors=False)
        return [policy_logits(logits, self._calibration) for logits, _ in outputs]
