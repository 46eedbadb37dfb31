"""Selection of the layer states that the head reads: the last, a given one, or all fused."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class LayerwiseAttention(nn.Module):
    """Squeeze-and-excitation over layers, with upstream's parameter names.

    Weights sized for N layers ignore the embedding output, weights sized for N + 1 use it; upstream crashes on the
    former
    (docs/decisions/0002-upstream-quirks.md).
    """

    def __init__(self, num_inputs: int, hidden_size: int) -> None:
        super().__init__()
        self.num_inputs = num_inputs
        self.squeeze = nn.Linear(hidden_size, 1)
        self.W1 = nn.Linear(num_inputs, num_inputs // 2)
        self.W2 = nn.Linear(num_inputs // 2, num_inputs)
        self.output_projection = nn.Linear(hidden_size, hidden_size)

    def forward(self, layers: Sequence[Tensor], mask: Tensor) -> Tensor:
        """Fuse layers with weights per row.

        Args:
            layers: Embedding output and every layer's output, FloatTensor [num_windows, seq_len, hidden] each.
            mask: BoolTensor [num_windows, seq_len]. True on tokens.

        Returns:
            FloatTensor [num_windows, seq_len, hidden].
        """
        stacked = torch.stack(list(layers[-self.num_inputs :]), dim=1)
        squeezed = self.squeeze(stacked).squeeze(-1) * mask[:, None]
        squeezed = squeezed.sum(dim=-1) / mask.sum(dim=-1, keepdim=True)
        gates = self.W2(self.W1(squeezed).relu()).sigmoid()
        fused: Tensor = self.output_projection((stacked * gates[..., None, None]).sum(dim=1))
        return fused
