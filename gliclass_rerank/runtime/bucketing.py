"""Layers that compute with filled up inputs (`model/bucketing.py`)."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from gliclass_rerank.model.bucketing import filling

# By name: the second is transformers', which is not imported for it.
_ACTIVATIONS: Final = frozenset(("GELU", "GELUActivation"))


def fill_layers(module: nn.Module) -> None:
    """Let what oneDNN computes below a module, linear layers and GELU, see few shapes; what they return is as before.

    Args:
        module: Its layers are replaced; weights, and the names of all, stay.
    """
    for name, child in module.named_children():
        if type(child) is nn.Linear:  # others may have a `forward` of their own
            setattr(module, name, _FilledLinear(child))
        elif type(child).__name__ in _ACTIVATIONS:
            setattr(module, name, _FilledActivation(child))
        else:
            fill_layers(child)


class _FilledLinear(nn.Linear):
    """Linear layer with bucketed input over the weights of another one."""

    def __init__(self, linear: nn.Linear) -> None:
        nn.Module.__init__(self)  # nn.Linear's own would make weights
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, states: Tensor) -> Tensor:
        num_tokens = states.shape[:-1].numel()
        missing = filling(num_tokens)
        if not missing:
            return super().forward(states)
        outputs = super().forward(functional.pad(states.reshape(num_tokens, -1), (0, 0, 0, missing)))
        return outputs[:num_tokens].view(*states.shape[:-1], -1)


class _FilledActivation(nn.Module):
    """Element-wise activation on a flattened, padded number of tokens."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.activation = activation

    def forward(self, states: Tensor) -> Tensor:
        num_tokens, width = states.shape[:-1].numel(), states.shape[-1]
        filled = num_tokens + filling(num_tokens)
        outputs: Tensor = self.activation(_filled(states.reshape(num_tokens, width), filled))
        return outputs[:num_tokens].view(states.shape)


def _filled(rows: Tensor, num_rows: int) -> Tensor:
    """The rows with others behind them, whatever is in these."""
    end = rows.storage_offset() + num_rows * rows.shape[1]
    if rows.is_contiguous() and end * rows.element_size() <= rows.untyped_storage().nbytes():
        # A filled linear layer's output, whose storage goes on.
        return torch.as_strided(rows, (num_rows, rows.shape[1]), (rows.shape[1], 1))
    return functional.pad(rows, (0, 0, 0, num_rows - rows.shape[0]))
