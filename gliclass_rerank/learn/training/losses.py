"""Losses of one query's candidates, as pure functions of tensors.

All but `contrastive` and `relational` take `logits` (FloatTensor [num_candidates], unbounded), `targets` (FloatTensor
[num_candidates]; grades, labels or teacher scores) and `mask` (BoolTensor [num_candidates], True on known targets), and
return FloatTensor []. Candidates with unknown targets are ignored. Without anything to learn (no known target, no
positive, a single candidate in a comparison) the loss is 0 with zero gradients.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def listwise_softmax(logits: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy between softmax of the logits and normalised grades (Bruch et al., ICTIR 2019).

    Negative grades count as 0; the loss is 0 without a positive one.
    """
    logits, gains = logits[mask], targets[mask].clamp(min=0)
    total = gains.sum()
    if total <= 0:
        return _nothing(logits)
    return -(gains / total * logits.log_softmax(dim=0)).sum()


def binary_cross_entropy(logits: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """Mean binary cross-entropy per candidate; targets are probabilities in [0, 1]."""
    if not mask.any():
        return _nothing(logits)
    return functional.binary_cross_entropy_with_logits(logits[mask], targets[mask])


def focal(logits: Tensor, targets: Tensor, mask: Tensor, *, gamma: float = 2.0, alpha: float | None = None) -> Tensor:
    """Focal binary cross-entropy, which down-weights easy candidates (Lin et al., arXiv 1708.02002).

    Args:
        logits: FloatTensor [num_candidates].
        targets: FloatTensor [num_candidates]. Probabilities in [0, 1].
        mask: BoolTensor [num_candidates]. True on known targets.
        gamma: Exponent of (1 - probability of the truth), at least 0; 0 is plain cross-entropy.
        alpha: Weight of the positives in [0, 1], negatives have 1 - alpha; None for unweighted.

    Returns:
        FloatTensor []: mean over known targets; 0 if there is none.
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
    """Mean squared error against targets of any range."""
    if not mask.any():
        return _nothing(logits)
    return functional.mse_loss(logits[mask], targets[mask])


def margin_mse(logits: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error of all pairwise margins (Hofstätter et al., arXiv 2010.02666).

    Targets are a teacher's scores, of which only differences matter; 0 with fewer than two.
    """
    gap = (logits - targets)[mask]
    if len(gap) < 2:
        return _nothing(logits)
    first, second = torch.triu_indices(len(gap), len(gap), offset=1, device=gap.device)
    return (gap[first] - gap[second]).square().mean()


def ranknet(logits: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """Mean logistic loss of the pairs whose targets differ (Burges et al., ICML 2005); only their order matters."""
    logits, targets = logits[mask], targets[mask]
    better, worse = (targets[:, None] > targets[None, :]).nonzero(as_tuple=True)
    if len(better) == 0:
        return _nothing(logits)
    return functional.softplus(logits[worse] - logits[better]).mean()


def listwise_kl(logits: Tensor, targets: Tensor, mask: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Kullback-Leibler divergence from the softmax of a teacher's scores to that of the logits.

    The scores are divided by `temperature`, above 0; small values sharpen the teacher. 0 with fewer than two scores.
    """
    logits, targets = logits[mask], targets[mask]
    if len(logits) < 2:
        return _nothing(logits)
    teacher = (targets / temperature).log_softmax(dim=0)
    return functional.kl_div(logits.log_softmax(dim=0), teacher, reduction="sum", log_target=True)


def contrastive(anchors: Tensor, positives: Tensor, *, temperature: float = 1.0) -> Tensor:
    """InfoNCE by cosine: each anchor should be closest to its own positive (van den Oord et al., arXiv 1807.03748).

    With queries and positives of one batch these are in-batch negatives; with a text's candidate vectors on both sides
    it
    is upstream's contrastive term, which pushes them apart.

    Args:
        anchors: FloatTensor [num_rows, hidden].
        positives: FloatTensor [num_rows, hidden], row by row for the anchors.
        temperature: Divisor of the cosines, above 0.

    Returns:
        FloatTensor []; 0 with fewer than two rows.
    """
    if len(anchors) < 2:
        return _nothing(anchors)
    cosines = functional.normalize(anchors, dim=-1) @ functional.normalize(positives, dim=-1).T
    return functional.cross_entropy(cosines / temperature, torch.arange(len(anchors), device=anchors.device))


def relational(vectors: Tensor, targets: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Divergence of each row's similarities to the others from a teacher's (Park et al., arXiv 1904.05068).

    Args:
        vectors: FloatTensor [num_rows, hidden].
        targets: FloatTensor [num_rows, num_rows]. The teacher's similarities, divided by its temperature.
        temperature: Divisor of the cosines, above 0.

    Returns:
        FloatTensor []: mean Kullback-Leibler divergence of softmaxes over the other rows; 0 with fewer than three rows.
    """
    count = len(vectors)
    if count < 3:
        return _nothing(vectors)
    others = ~torch.eye(count, dtype=torch.bool, device=vectors.device)
    unit = functional.normalize(vectors, dim=-1)
    cosines = (unit @ unit.T / temperature)[others].view(count, count - 1)
    teacher = targets[others].view(count, count - 1)
    return functional.kl_div(
        cosines.log_softmax(dim=1), teacher.log_softmax(dim=1), reduction="batchmean", log_target=True
    )


def _nothing(values: Tensor) -> Tensor:
    """Zero with a zero gradient."""
    return 0.0 * values.sum()
