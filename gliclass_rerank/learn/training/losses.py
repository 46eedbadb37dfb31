"""Losses of one query's candidates, as pure functions of tensors.

All but `contrastive` take `logits` (FloatTensor [num_candidates], unbounded), `targets` (FloatTensor [num_candidates];
grades, labels or a teacher's scores) and `mask` (BoolTensor [num_candidates], True where the target is known). A
candidate whose target is unknown is left out: it is neither a positive nor a negative. Where nothing can be learned
(no known target, no positive, a single candidate in a loss that compares) the loss is 0 with zero gradients, so that a
training step never depends on the luck of a draw.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def listwise_softmax(logits: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy between the softmax of the logits and the normalised grades (Bruch et al., ICTIR 2019).

    Args:
        logits: FloatTensor [num_candidates].
        targets: FloatTensor [num_candidates]. Grades; negative ones count as 0.
        mask: BoolTensor [num_candidates]. True where the grade is known.

    Returns:
        FloatTensor []; 0 without a positive grade.
    """
    logits, gains = logits[mask], targets[mask].clamp(min=0)
    total = gains.sum()
    if total <= 0:
        return _nothing(logits)
    return -(gains / total * logits.log_softmax(dim=0)).sum()


def binary_cross_entropy(logits: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """Mean binary cross-entropy: each candidate is a question of its own.

    Args:
        logits: FloatTensor [num_candidates].
        targets: FloatTensor [num_candidates]. Probabilities in [0, 1].
        mask: BoolTensor [num_candidates]. True where the target is known.

    Returns:
        FloatTensor []; 0 if no target is known.
    """
    if not mask.any():
        return _nothing(logits)
    return functional.binary_cross_entropy_with_logits(logits[mask], targets[mask])


def focal(logits: Tensor, targets: Tensor, mask: Tensor, *, gamma: float = 2.0, alpha: float | None = None) -> Tensor:
    """Focal binary cross-entropy: what is right already counts little (Lin et al., arXiv 1708.02002).

    Args:
        logits: FloatTensor [num_candidates].
        targets: FloatTensor [num_candidates]. Probabilities in [0, 1].
        mask: BoolTensor [num_candidates]. True where the target is known.
        gamma: Exponent of (1 - probability of the truth), at least 0; 0 is plain cross-entropy.
        alpha: Weight of the positives in [0, 1], the negatives have 1 - alpha; None weighs both 1.

    Returns:
        FloatTensor []: the mean over known targets; 0 if there is none.
    """
    if not mask.any():
        return _nothing(logits)
    logits, targets = logits[mask], targets[mask]
    entropy = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    probability = logits.sigmoid()
    of_truth = probability * targets + (1 - probability) * (1 - targets)
    weighted = entropy * (1 - of_truth) ** gamma
    if alpha is not None:
        weighted = weighted * (alpha * targets + (1 - alpha) * (1 - targets))
    return weighted.mean()


def mean_squared_error(logits: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """Mean squared distance to the targets.

    Args:
        logits: FloatTensor [num_candidates].
        targets: FloatTensor [num_candidates]. Any range.
        mask: BoolTensor [num_candidates]. True where the target is known.

    Returns:
        FloatTensor []; 0 if no target is known.
    """
    if not mask.any():
        return _nothing(logits)
    return functional.mse_loss(logits[mask], targets[mask])


def margin_mse(logits: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error of the margins between candidates (Hofstätter et al., arXiv 2010.02666), over all pairs.

    Args:
        logits: FloatTensor [num_candidates].
        targets: FloatTensor [num_candidates]. A teacher's scores; only their differences matter.
        mask: BoolTensor [num_candidates]. True where the target is known.

    Returns:
        FloatTensor []; 0 with fewer than two known targets.
    """
    gap = (logits - targets)[mask]
    if len(gap) < 2:
        return _nothing(logits)
    first, second = torch.triu_indices(len(gap), len(gap), offset=1, device=gap.device)
    return (gap[first] - gap[second]).square().mean()


def ranknet(logits: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """Mean logistic loss of the pairs whose targets differ (Burges et al., ICML 2005).

    Args:
        logits: FloatTensor [num_candidates].
        targets: FloatTensor [num_candidates]. Grades or scores; only their order matters.
        mask: BoolTensor [num_candidates]. True where the target is known.

    Returns:
        FloatTensor []; 0 if no two known targets differ.
    """
    logits, targets = logits[mask], targets[mask]
    better, worse = (targets[:, None] > targets[None, :]).nonzero(as_tuple=True)
    if len(better) == 0:
        return _nothing(logits)
    return functional.softplus(logits[worse] - logits[better]).mean()


def listwise_kl(logits: Tensor, targets: Tensor, mask: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Kullback-Leibler divergence from the softmax of a teacher's scores to that of the logits.

    Args:
        logits: FloatTensor [num_candidates].
        targets: FloatTensor [num_candidates]. The teacher's scores.
        mask: BoolTensor [num_candidates]. True where the score is known.
        temperature: The teacher's scores are divided by it, above 0; small ones make it sure of its best candidate.

    Returns:
        FloatTensor []; 0 with fewer than two known scores.
    """
    logits, targets = logits[mask], targets[mask]
    if len(logits) < 2:
        return _nothing(logits)
    teacher = (targets / temperature).log_softmax(dim=0)
    return functional.kl_div(logits.log_softmax(dim=0), teacher, reduction="sum", log_target=True)


def contrastive(anchors: Tensor, positives: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Each anchor should be closest to its own positive, by cosine (InfoNCE, van den Oord et al., arXiv 1807.03748).

    With queries and their positives of one batch these are in-batch negatives. With a text's candidate vectors on both
    sides it pushes them apart, which is upstream's contrastive term.

    Args:
        anchors: FloatTensor [num_rows, hidden].
        positives: FloatTensor [num_rows, hidden]. Row by row what belongs to the anchors.
        temperature: Cosines are divided by it, above 0.

    Returns:
        FloatTensor []; 0 with fewer than two rows.
    """
    if len(anchors) < 2:
        return _nothing(anchors)
    cosines = functional.normalize(anchors, dim=-1) @ functional.normalize(positives, dim=-1).T
    return functional.cross_entropy(cosines / temperature, torch.arange(len(anchors), device=anchors.device))


def _nothing(values: Tensor) -> Tensor:
    """A zero that still has a (zero) gradient."""
    return 0.0 * values.sum()
