"""Progress reports and speed of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Report:
    """State of a run after a step or an evaluation.

    Attributes:
        step: Steps done.
        num_steps: Total steps.
        loss: Loss of the last step; NaN before the first one.
        tokens_per_second: Training speed of this process, without padding.
        padded_tokens_per_second: Training speed with padding.
        seconds_left: Estimate of the remaining time, evaluations included; infinite before the first step.
        figures: Metrics of an evaluation; empty after a step.
    """

    step: int
    num_steps: int
    loss: float
    tokens_per_second: float
    padded_tokens_per_second: float
    seconds_left: float
    figures: Mapping[str, float]


class Pace:
    """Speed of this process."""

    def __init__(self) -> None:
        self.num_tokens = self.num_padded = self._steps = self._evaluations = 0
        self._step_seconds = self._evaluation_seconds = 0.0

    def add_step(self, seconds: float, num_tokens: int, num_padded: int) -> None:
        """Count a step."""
        self._steps += 1
        self._step_seconds += seconds
        self.num_tokens += num_tokens
        self.num_padded += num_padded

    def add_evaluation(self, seconds: float) -> None:
        """Count an evaluation, drawing and saving included."""
        self._evaluations += 1
        self._evaluation_seconds += seconds

    def rate(self, count: int) -> float:
        """Convert a count to a rate per second of steps."""
        return count / self._step_seconds if self._step_seconds else 0.0

    def seconds_left(self, steps: int, evaluations: int) -> float:
        """Estimate the remaining time; infinite before the first step."""
        if not self._steps:
            return math.inf
        per_evaluation = self._evaluation_seconds / max(1, self._evaluations)
        return steps * self._step_seconds / self._steps + evaluations * per_evaluation
