"""Ranking policy gradient: Plackett-Luce rankings, clipped against the policy that showed the lists.

The old policy's probabilities are fixed, so every ratio compares one action under both policies. Each choice of a
ranking is clipped as in PPO, which bounds how far the new policy is rewarded for leaving the old one (PRPO, arXiv
2407.19943); the advantage of a choice is what its ranking gains from there on, minus the mean of the other samples
(Neural PG-RANK, arXiv 2310.04407).
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

_CUTOFF: Final = 10


def sample_rankings(logits: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Sample Plackett-Luce rankings with Gumbel noise.

    Args:
        logits: FloatTensor [num_candidates].
        count: Number of samples.
        generator: Generator on the CPU.

    Returns:
        LongTensor [count, num_candidates]. Candidates, best first.
    """
    noise = torch.rand((count, len(logits)), generator=generator).clamp(min=1e-12)
    return (logits.detach().cpu() - (-noise.log()).log()).argsort(dim=1, descending=True).to(logits.device)


def choice_log_probabilities(logits: Tensor, rankings: Tensor) -> Tensor:
    """Log-probability of each choice, given those before.

    Args:
        logits: FloatTensor [num_candidates].
        rankings: LongTensor [num_samples, num_candidates].

    Returns:
        FloatTensor [num_samples, num_candidates]; a row's sum is its ranking's log-probability.
    """
    chosen = logits[rankings]
    return chosen - chosen.flip(1).logcumsumexp(dim=1).flip(1)


def returns_to_go(gains: Tensor, rankings: Tensor) -> Tensor:
    """Share of the ideal DCG@10 that a ranking gains from each choice on; FloatTensor [num_samples, num_candidates]."""
    places = torch.arange(len(gains), device=gains.device)
    discounts = torch.where(places < _CUTOFF, 1 / torch.log2(places + 2.0), 0.0)
    ideal = (gains.sort(descending=True).values * discounts).sum().clamp(min=1e-9)
    return (gains[rankings] * discounts / ideal).flip(1).cumsum(dim=1).flip(1)


def leave_one_out(rewards: Tensor) -> Tensor:
    """Advantages over the mean of the other samples; FloatTensor [num_samples, ...], at least two samples."""
    count = len(rewards)
    return (rewards - rewards.mean(dim=0)) * (count / (count - 1))


def clipped(log_ratios: Tensor, advantages: Tensor, clip: float) -> Tensor:
    """PPO's clipped surrogate of each action, to be maximised."""
    ratios = log_ratios.exp()
    return torch.minimum(ratios * advantages, ratios.clamp(1 - clip, 1 + clip) * advantages)


def ranking_policy(
    logits: Tensor, old_logits: Tensor, gains: Tensor, mask: Tensor, *, samples: int, clip: float, seed: int
) -> Tensor:
    """Clipped policy-gradient loss of a list.

    Args:
        logits: FloatTensor [num_candidates].
        old_logits: FloatTensor [num_candidates]. Logits of the policy that is departed from.
        gains: FloatTensor [num_candidates]. Gains, negative ones count as 0.
        mask: BoolTensor [num_candidates]. True where the gain and the old logit are known.
        samples: Rankings sampled from the old policy, at least 2.
        clip: Largest rewarded change of a choice's probability, as a share.
        seed: Seed of the samples.

    Returns:
        FloatTensor []; 0 without a positive gain, or with a single candidate.
    """
    logits, old, gains = logits[mask], old_logits[mask].detach(), gains[mask].clamp(min=0)
    if len(logits) < 2 or gains.sum() <= 0:
        return 0.0 * logits.sum()
    rankings = sample_rankings(old, samples, torch.Generator().manual_seed(seed))
    advantages = leave_one_out(returns_to_go(gains, rankings))
    log_ratios = choice_log_probabilities(logits, rankings) - choice_log_probabilities(old, rankings)
    return -clipped(log_ratios, advantages, clip).sum(dim=1).mean()
