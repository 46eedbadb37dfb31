"""8-bit integers for the inputs and weights of a backbone's linear layers: which scales, and from what.

Weights have a scale for each output, inputs one for all, found once by running texts (static quantisation): a scale of
each batch's own would let passages change each other's scores. Where some channels of an input are far larger than the
rest, one scale would leave the rest no bits: such channels are divided by what the weights are multiplied with
(SmoothQuant, arXiv 2211.10438).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

FloatArray = NDArray[np.float32]

_LARGEST_WEIGHT: Final = 127
_LARGEST_INPUT: Final = 255
# How much of a channel's size moves into the weights. The paper's half leaves the bundled model's logits three times as
# far from float32: what its activation function lets through is large in a few channels and tiny in the others.
_MOVED: Final = 0.8
_SMALLEST: Final = np.float32(1e-6)


@dataclass(frozen=True)
class MinMax:
    """What an input was seen to be.

    Attributes:
        lowest: FloatArray [hidden]. Least value of each channel.
        highest: FloatArray [hidden]. Largest value of each channel.
    """

    lowest: FloatArray
    highest: FloatArray


@dataclass(frozen=True)
class Observer:
    """Where an input can be seen.

    Attributes:
        module: A module that is called.
        gives: Whether it is what the module returns, else what the module is given.
    """

    module: nn.Module
    gives: bool = False


@dataclass(frozen=True)
class InputScale:
    """How an input becomes 8-bit integers: `round(input / divisor / scale) + zero_point`.

    Attributes:
        divisor: FloatArray [hidden]. What each channel is divided by first.
        scale: Size of a step.
        zero_point: What 0 becomes, in [0, 255].
    """

    divisor: FloatArray
    scale: float
    zero_point: int


def input_scale(seen: MinMax, weights: FloatArray) -> InputScale:
    """The scale for an input.

    Args:
        seen: What the input was seen to be.
        weights: FloatArray [hidden, num_outputs]. All weights that it is multiplied with.

    Returns:
        The scale.
    """
    size = np.maximum(np.maximum(-seen.lowest, seen.highest), _SMALLEST)
    reach = np.maximum(np.abs(weights).max(axis=1), _SMALLEST)
    divisor = np.maximum(size**_MOVED / reach ** (1 - _MOVED), _SMALLEST).astype(np.float32)
    low = min(float((seen.lowest / divisor).min()), 0.0)
    high = max(float((seen.highest / divisor).max()), 0.0)
    scale = max((high - low) / _LARGEST_INPUT, float(_SMALLEST))
    return InputScale(divisor, scale, round(-low / scale))


def quantised_weights(weights: FloatArray) -> tuple[NDArray[np.int8], FloatArray]:
    """Round weights to 8 bits.

    Args:
        weights: FloatArray [hidden, num_outputs].

    Returns:
        Integers of the same shape in [-127, 127], and FloatArray [num_outputs], what they are multiplied with.
    """
    scales = np.maximum(np.abs(weights).max(axis=0) / _LARGEST_WEIGHT, _SMALLEST * _SMALLEST).astype(np.float32)
    return np.rint(weights / scales).astype(np.int8), scales


def observed_inputs(watched: Mapping[str, Observer], run: Callable[[], object]) -> dict[str, MinMax]:
    """Run something and watch what goes into linear layers.

    Args:
        watched: Where to look, by name.
        run: Runs them, without padding, which would count.

    Returns:
        The extremes of what was seen, under its name.
    """
    lowest: dict[str, Tensor] = {}
    highest: dict[str, Tensor] = {}

    def watcher(name: str) -> Callable[..., None]:
        def watch(_: nn.Module, given: tuple[Any, ...], *returned: Any) -> None:  # Any: whatever the module takes
            rows = (*returned, *given)[0].detach().flatten(0, -2)
            low, high = rows.amin(dim=0), rows.amax(dim=0)
            lowest[name] = low.minimum(lowest[name]) if name in lowest else low
            highest[name] = high.maximum(highest[name]) if name in highest else high

        return watch

    with _hooked(watched, watcher):
        run()
    return {name: MinMax(lowest[name].cpu().numpy(), highest[name].cpu().numpy()) for name in lowest}


@contextmanager
def _hooked(watched: Mapping[str, Observer], hook: Callable[[str], Callable[..., None]]) -> Iterator[None]:
    handles = [
        (each.module.register_forward_hook if each.gives else each.module.register_forward_pre_hook)(hook(name))
        for name, each in watched.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
