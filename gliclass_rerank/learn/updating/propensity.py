"""Propensities: how probably each place of a list was looked at.

Position-based click model: a click takes a look at the place, 1 / place^eta, and a passage that seems relevant, a
logistic function of its logit. That one decay serves all lists keeps the estimate sane with few clicks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

import torch
from torch import Tensor

from gliclass_rerank.learn.updating.gathering import Impression

_PRIOR: Final = 1.0  # of the decay, worth about as much as a handful of lists
_PRIOR_DEVIATION: Final = 0.5
_LEAST: Final = 0.1


class Propensities:
    """Probabilities of a look by place.

    Args:
        decay: Exponent eta, at least 0; 0 for no bias.

    Attributes:
        decay: Exponent eta.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay

    def at(self, place: int) -> float:
        """Probability at a place from 0, clipped at 0.1, which bounds the weight of a click."""
        return float(max(_LEAST, (place + 1) ** -self.decay))


def estimate(impressions: Iterable[Impression]) -> Propensities:
    """Estimate the decay by maximum a posteriori.

    Args:
        impressions: Lists shown; only those with a click count. Without any, the prior's decay 1 is returned.

    Returns:
        Propensities.
    """
    rows = [
        (place + 1, 0.0 if math.isnan(logit) else logit, float(place in impression.clicked))
        for impression in impressions
        if impression.clicked
        for place, logit in enumerate(impression.logits)
    ]
    if not rows:
        return Propensities(_PRIOR)
    places, logits, clicks = torch.tensor(rows, dtype=torch.float64).T
    logits = (logits - logits.mean()) / logits.std().clamp(min=1e-6) if len(rows) > 1 else logits
    # Decay, slope and intercept.
    values = torch.tensor([_PRIOR, 1.0, -1.0], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([values], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        found = _negative_log_posterior(values, places, logits, clicks)
        found.backward()  # type: ignore[no-untyped-call] # torch's own
        return found

    with torch.enable_grad():
        optimizer.step(loss)  # type: ignore[no-untyped-call] # torch's own
    return Propensities(max(0.0, values[0].item()))


def _negative_log_posterior(values: Tensor, places: Tensor, logits: Tensor, clicks: Tensor) -> Tensor:
    decay, slope, intercept = values
    looked = -decay.clamp(min=0) * places.log()
    log_click = (looked + torch.nn.functional.logsigmoid(slope * logits + intercept)).clamp(max=-1e-6)
    log_none = torch.log(-torch.expm1(log_click))
    prior = ((decay - _PRIOR) / _PRIOR_DEVIATION).square() / 2 + (slope.square() + intercept.square()) / 50
    posterior: Tensor = prior - (clicks * log_click + (1 - clicks) * log_none).sum()
    return posterior
