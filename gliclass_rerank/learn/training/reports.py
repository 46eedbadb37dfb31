"""What a run says about itself while it runs, and how fast it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Report:
    """How a run is doing, after a step or an evaluation.

    Attributes:
        step: Steps done.
        num_steps: Steps in all.
        loss: Loss of the last step; NaN before the first one.
        tokens_per_second: Tokens trained on in a second since this process took over, without padding.
        padded_tokens_per_second: The same with padding.
        seconds_left: Estimate for the rest of the run, evaluations included; infinite before the first step.
        figures: What an evaluation measured; empty after a step.
    """

    step: int
    num_steps: int
    loss: float
    tokens_per_second: float
    padded_tokens_per_second: float
    seconds_left: float
    figures: Mapping[str, float]


class Pace:
    """How fast this process is."""

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
        """So many of something in a second of steps."""
        return count / self._step_seconds if self._step_seconds else 0.0

    def seconds_left(self, steps: int, evaluations: int) -> float:
        """Estimate for what is left to do; infinite before the first step."""
        if not self._steps:
            return math.inf
        per_evaluation = self._evaluation_seconds / max(1, self._evaluations)
        return steps * self._step_seconds / self._steps + evaluations * per_evaluation
