"""Batches filled up to few numbers of tokens, for libraries that prepare themselves for each number that they meet.

What oneDNN has prepared is kept: torch's bfloat16 by up to a thousand preparations of nearly a MiB each, while float32
needs none. In openvino preparing takes longer (in int8 half a batch's time) than a few tokens more.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

_FEW_TOKENS = 128
_STEP, _STEP_OF_FEW = 128, 32


def filling(num_tokens: int) -> int:
    """How many tokens a batch lacks to a number of which there are few."""
    return -num_tokens % (_STEP_OF_FEW if num_tokens <= _FEW_TOKENS else _STEP)


def fill_linear_layers(module: nn.Module) -> None:
    """Let the linear layers below a module compute with filled up inputs; what they return is as before.

    Args:
        module: Its linear layers are replaced; weights, and the names of all, stay.
    """
    for name, child in module.named_children():
        if type(child) is nn.Linear:  # others may have a `forward` of their own
            setattr(module, name, _FilledLinear(child))
        else:
            fill_linear_layers(child)


class _FilledLinear(nn.Linear):
    """A linear layer over the weights of another one."""

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
