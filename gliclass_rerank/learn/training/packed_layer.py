"""BERT layer over a packing, with handwritten gradients.

They avoid autograd's casts between float32 and bfloat16, separate query, key and value products, and slow sums over
tokens. Norms have float32 weights and statistics in any precision.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from gliclass_rerank.learn.training.packed_attention import Kept, attend, attend_backward
from gliclass_rerank.learn.training.packing import Packing


class LayerWeights(NamedTuple):
    """Weights of a layer, in the precision of its products; norms in float32.

    Attributes:
        projection: Stacked query, key and value matrices, FloatTensor [3 * hidden, hidden].
        projection_bias: FloatTensor [3 * hidden].
        output: FloatTensor [hidden, hidden].
        output_bias: FloatTensor [hidden].
        first_norm: FloatTensor [hidden].
        first_norm_bias: FloatTensor [hidden].
        up: FloatTensor [inner, hidden].
        up_bias: FloatTensor [inner].
        down: FloatTensor [hidden, inner].
        down_bias: FloatTensor [hidden].
        second_norm: FloatTensor [hidden].
        second_norm_bias: FloatTensor [hidden].
    """

    projection: Tensor
    projection_bias: Tensor
    output: Tensor
    output_bias: Tensor
    first_norm: Tensor
    first_norm_bias: Tensor
    up: Tensor
    up_bias: Tensor
    down: Tensor
    down_bias: Tensor
    second_norm: Tensor
    second_norm_bias: Tensor

    @classmethod
    def of(cls, layer: Any, dtype: torch.dtype) -> LayerWeights:  # Any: a layer of `Bert`, whose parts have no types
        """Read a layer of `Bert`, differentiably."""
        inner, after = layer.attention.self, layer.attention.output
        parts = (inner.query, inner.key, inner.value)
        return cls(
            torch.cat([part.weight for part in parts]).to(dtype),
            torch.cat([part.bias for part in parts]).to(dtype),
            *_linear(after.dense, dtype),
            after.LayerNorm.weight,
            after.LayerNorm.bias,
            *_linear(layer.intermediate.dense, dtype),
            *_linear(layer.output.dense, dtype),
            layer.output.LayerNorm.weight,
            layer.output.LayerNorm.bias,
        )

    @property
    def first(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of the first norm."""
        return self.first_norm, self.first_norm_bias

    @property
    def second(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of the second norm."""
        return self.second_norm, self.second_norm_bias


def _linear(module: Any, dtype: torch.dtype) -> tuple[Tensor, Tensor]:  # Any: see `LayerWeights.of`
    return module.weight.to(dtype), module.bias.to(dtype)


class LayerSettings(NamedTuple):
    """Non-tensor settings of a layer.

    Attributes:
        num_heads: Attention heads.
        epsilon: Epsilon of the norms.
        shares: Candidates see the query.
    """

    num_heads: int
    epsilon: float
    shares: bool


def run_layer(
    states: Tensor, weights: LayerWeights, key_bias: Tensor | None, packing: Packing, settings: LayerSettings
) -> Tensor:
    """Run a layer.

    Args:
        states: FloatTensor [num_tokens, hidden].
        weights: Weights of the layer.
        key_bias: FloatTensor [num_heads], float32; None for none.
        packing: Layout of the sequences.
        settings: Other settings.

    Returns:
        FloatTensor [num_tokens, hidden].
    """
    output: Tensor = _Layer.apply(states, *weights, key_bias, packing, settings)  # type: ignore[no-untyped-call]
    return output


class _Layer(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, *arguments: Any) -> Tensor:  # Any: torch's protocol
        *tensors, key_bias, packing, settings = arguments
        weights = LayerWeights(*tensors)
        projected = functional.linear(states, weights.projection, weights.projection_bias)
        projected = projected.view(len(states), 3, settings.num_heads, -1)
        bias = None if key_bias is None else key_bias.to(states.dtype)
        context, kept = attend(projected, packing, bias, shares=settings.shares)
        context = context.view(len(states), -1)
        summed = functional.linear(context, weights.output, weights.output_bias).add_(states)
        attended, *first = _normed(summed, *weights.first, settings.epsilon)
        wide = functional.linear(attended, weights.up, weights.up_bias)
        active = functional.gelu(wide)
        closing = functional.linear(active, weights.down, weights.down_bias).add_(attended)
        finished, *second = _normed(closing, *weights.second, settings.epsilon)
        ctx.save_for_backward(
            states, context, summed, attended, wide, active, closing, *first, *second, *weights, key_bias
        )
        ctx.kept, ctx.packing, ctx.settings = kept, packing, settings
        return finished

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # Any: torch's protocol
        states, context, summed, attended, wide, active, closing, *rest = ctx.saved_tensors
        first, second, weights, key_bias = rest[:2], rest[2:4], LayerWeights(*rest[4:-1]), rest[-1]
        ones = gradient.new_ones(1, len(states))
        of_closing, *of_second = _norm_backward(gradient, closing, second, *weights.second, ones)
        of_active = of_closing @ weights.down
        of_wide = torch.ops.aten.gelu_backward(of_active, wide)
        of_attended = torch.addmm(of_closing, of_wide, weights.up)
        of_summed, *of_first = _norm_backward(of_attended, summed, first, *weights.first, ones)
        of_context = (of_summed @ weights.output).view(len(states), ctx.settings.num_heads, -1)
        kept: list[Kept] = ctx.kept
        of_projected, of_bias = attend_backward(of_context, ctx.packing, kept, shares=ctx.settings.shares)
        of_projected = of_projected.view(len(states), -1)
        of_states = torch.addmm(of_summed, of_projected, weights.projection) if ctx.needs_input_grad[0] else None
        return (
            of_states,
            *_linear_backward(of_projected, states, ones),
            *_linear_backward(of_summed, context, ones),
            *of_first,
            *_linear_backward(of_wide, attended, ones),
            *_linear_backward(of_closing, active, ones),
            *of_second,
            None if key_bias is None else of_bias,
            None,
            None,
        )


def _normed(states: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
    return torch.native_layer_norm(states, (states.shape[-1],), weight, bias, epsilon)


def _norm_backward(
    gradient: Tensor, states: Tensor, statistics: list[Tensor], weight: Tensor, bias: Tensor, ones: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of a norm's input, weight and bias."""
    of_states: Tensor = torch.ops.aten.native_layer_norm_backward(
        gradient, states, (states.shape[-1],), *statistics, weight, bias, (True, False, False)
    )[0]
    # Torch's own sums over tokens run in bfloat16 and lose a fifth of the weight's gradient.
    mean, scale = (part.flatten() for part in statistics)
    of_bias, shifted = torch.cat([ones, (mean * scale).to(states.dtype)[None]]) @ gradient
    scaled = scale.to(states.dtype)[None] @ (gradient * states)
    return of_states, (scaled[0] - shifted).to(weight.dtype), of_bias.to(bias.dtype)


def _linear_backward(gradient: Tensor, states: Tensor, ones: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of a linear layer's weight and bias."""
    return gradient.T @ states, (ones @ gradient)[0]
