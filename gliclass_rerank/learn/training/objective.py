"""Training objective of an item: targets, loss terms and weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from gliclass_rerank.learn.training.batches import targets_of
from gliclass_rerank.learn.training.losses import (
    binary_cross_entropy,
    contrastive,
    focal,
    listwise_kl,
    listwise_softmax,
    margin_mse,
    mean_squared_error,
    ranknet,
    relational,
)
from gliclass_rerank.learn.training.questions import Question
from gliclass_rerank.learn.training.ranking_policy import ranking_policy
from gliclass_rerank.learn.training.source_config import LossConfig

_Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def item_loss(
    logits: Tensor, vectors: Tensor | None, question: Question, order: Sequence[int], terms: Sequence[LossConfig]
) -> Tensor:
    """Sum an item's loss terms.

    Args:
        logits: FloatTensor [num_candidates].
        vectors: FloatTensor [num_candidates, hidden]. Projected candidate vectors, for terms that want them.
        question: Targets of the candidates.
        order: Candidate position in the question for each logit.
        terms: Loss terms of the source.

    Returns:
        FloatTensor [].
    """
    total = logits.new_zeros(())
    for term in terms:
        if term.wants_vectors:
            assert vectors is not None, "asked of the model with this term"
            value = _of_vectors(vectors, question, order, term)
        elif term.name == "policy":
            value = _of_policy(logits, question, order, term)
        else:
            targets, mask = _targets(question, order, term, logits.device)
            value = _function(term)(logits / term.temperature, targets, mask)
        total = total + term.weight * value
    return total


def _of_vectors(vectors: Tensor, question: Question, order: Sequence[int], term: LossConfig) -> Tensor:
    if term.name == "contrastive":
        return contrastive(vectors, vectors, temperature=term.temperature)
    units = [
        functional.normalize(torch.as_tensor(question.vectors[name], device=vectors.device)[list(order)], dim=-1)
        for name in term.teachers
    ]
    targets = torch.stack([unit @ unit.T for unit in units]).mean(dim=0)
    return relational(vectors, targets / term.teacher_temperature, temperature=term.temperature)


def _of_policy(logits: Tensor, question: Question, order: Sequence[int], term: LossConfig) -> Tensor:
    gains = targets_of(question.grades, order, logits.device)
    old = targets_of(question.teacher_scores[term.teachers[0]], order, logits.device)
    return ranking_policy(
        logits / term.temperature,
        old.nan_to_num() / term.temperature,
        gains.nan_to_num(),
        ~(gains.isnan() | old.isnan()),
        samples=term.samples,
        clip=term.clip,
        seed=question.seed,
    )


def _function(term: LossConfig) -> _Loss:
    functions: Mapping[str, _Loss] = {
        "listwise": listwise_softmax,
        "bce": binary_cross_entropy,
        "focal": partial(focal, gamma=term.gamma, alpha=term.alpha),
        "mse": mean_squared_error,
        "margin_mse": margin_mse,
        "ranknet": ranknet,
        "kl": listwise_kl,  # the targets include the temperature
    }
    return functions[term.name]


def _targets(question: Question, order: Sequence[int], term: LossConfig, device: torch.device) -> tuple[Tensor, Tensor]:
    """Targets and mask of known ones; probabilities for binary losses."""
    wants_probabilities = term.name in ("bce", "focal")
    if not term.teachers:
        targets = targets_of(question.grades, order, device)
        mask = ~targets.isnan()
        return (targets > 0).float() if wants_probabilities else targets.nan_to_num(), mask
    columns = torch.stack([targets_of(question.teacher_scores[name], order, device) for name in term.teachers])
    mask = ~columns.isnan().any(dim=0)
    scores = columns.nan_to_num()[:, mask]
    if len(term.teachers) > 1:
        scores = _standardised(scores)
    targets = torch.zeros(len(order), device=device)
    targets[mask] = scores.mean(dim=0) / term.teacher_temperature
    return targets.sigmoid() if wants_probabilities else targets, mask


def _standardised(scores: Tensor) -> Tensor:
    """Standardise each row; a row of equal scores becomes zeros."""
    centred = scores - scores.mean(dim=1, keepdim=True)
    return centred / centred.square().mean(dim=1, keepdim=True).sqrt().clamp(min=1e-6)
