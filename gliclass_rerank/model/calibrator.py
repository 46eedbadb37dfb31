"""Upstream's calibrator, which rescales each logit given the pair and its companions.

The calibrated logit is `beta * logit + bias` with beta in (0, beta_max). It reads statistics over a window's
candidates, so it depends on companions under the `joint` plan; under `shared_query` every passage is a set of one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from gliclass_rerank.model.config import ModelConfig

_NUM_STATISTICS = 6


class Calibrator(nn.Module):
    """MLP over both vectors and six statistics of the logits."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, hidden = config.shape.width, config.calibrator_hidden_size
        self.beta_max = config.calibrator_beta_max
        self.text_norm = nn.LayerNorm(width)
        self.label_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(4 * width + _NUM_STATISTICS, hidden),
            nn.GELU(),
            nn.Identity(),  # upstream's dropout; keeps the numbering of the weights
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Identity(),
            nn.Linear(hidden, 2 if config.calibrator_use_bias else 1),
        )

    def forward(self, text: Tensor, candidates: Tensor, logits: Tensor, marker_mask: Tensor) -> Tensor:
        """Rescale logits.

        Args:
            text: FloatTensor [num_windows, hidden]. Projected text vectors.
            candidates: FloatTensor [num_windows, max_passages, hidden]. Projected candidate vectors.
            logits: FloatTensor [num_windows, max_passages]. Raw logits.
            marker_mask: BoolTensor [num_windows, max_passages]. True on filled slots, at least one per row.

        Returns:
            FloatTensor [num_windows, max_passages].
        """
        label = self.label_norm(candidates)
        query = self.text_norm(text)[:, None].expand_as(label)
        statistics = _statistics(logits, marker_mask)
        output = self.mlp(torch.cat([query, label, query * label, (query - label).abs(), statistics], dim=-1))
        rescaled: Tensor = self.beta_max * output[..., 0].sigmoid() * logits
        return rescaled + output[..., 1] if output.shape[-1] == 2 else rescaled


def _statistics(logits: Tensor, mask: Tensor) -> Tensor:
    count = mask.sum(dim=-1, keepdim=True).to(logits.dtype)
    largest = logits.masked_fill(~mask, -torch.inf).amax(dim=-1, keepdim=True)
    mean = (logits * mask).sum(dim=-1, keepdim=True) / count
    probability = logits.sigmoid()
    entropy = -(probability * functional.logsigmoid(logits) + (1 - probability) * functional.logsigmoid(-logits))
    mean_entropy = (entropy * mask).sum(dim=-1, keepdim=True) / count
    columns = [
        logits,
        logits.abs(),
        logits - largest,
        logits - mean,
        mean_entropy.expand_as(logits),
        count.log().expand_as(logits),
    ]
    return torch.stack(columns, dim=-1)
