"""Shape bucketing: oneDNN and OpenVINO cache one kernel per input shape, so token counts are padded to few values.

oneDNN keeps up to a thousand bfloat16 kernels of nearly 1 MiB each; float32 needs none. OpenVINO spends more time on
compiling for a new shape than on a few padding tokens.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

_FEW_TOKENS = 128
_STEP, _STEP_OF_FEW = 128, 32


def filling(num_tokens: int) -> int:
    """Number of padding tokens up to the next bucket."""
    return -num_tokens % (_STEP_OF_FEW if num_tokens <= _FEW_TOKENS else _STEP)


def fill_linear_layers(module: nn.Module) -> None:
    """Replace the linear layers below a module, in place, by layers that pad their input to a bucket.

    Weights, names and outputs stay the same.
    """
    for name, child in module.named_children():
        if type(child) is nn.Linear:  # others may have a `forward` of their own
            setattr(module, name, _FilledLinear(child))
        else:
            fill_linear_layers(child)


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
