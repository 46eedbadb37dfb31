"""Static int8 quantisation of linear layers, with SmoothQuant (arXiv 2211.10438).

Weights have one scale per output, activations one per tensor, calibrated once on sample texts: a dynamic scale would
let passages of a batch change each other's scores. Outlier channels of an activation are divided by factors that the
weights are multiplied with.
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

# Weights as integers. Processors without int8 products add pairs of products in 16 bits, which 2 * 255 * 64 just fits.
FULL_WEIGHT_LIMIT: Final = 127
PAIRED_WEIGHT_LIMIT: Final = 64
_LARGEST_INPUT: Final = 255
# Share of a channel's magnitude moved into the weights. The paper's 0.5 triples the bundled model's logit error:
# its activation function yields large values in a few channels and tiny ones elsewhere.
_MOVED: Final = 0.8
_SMALLEST: Final = np.float32(1e-6)


@dataclass(frozen=True)
class MinMax:
    """Observed per-channel minimum and maximum.

    Attributes:
        lowest: FloatArray [hidden]. Minimum of each channel.
        highest: FloatArray [hidden]. Maximum of each channel.
    """

    lowest: FloatArray
    highest: FloatArray


@dataclass(frozen=True)
class Observer:
    """Observation point of an activation.

    Attributes:
        module: Observed module.
        gives: Observe the module's output instead of its input.
    """

    module: nn.Module
    gives: bool = False


@dataclass(frozen=True)
class InputScale:
    """Quantisation parameters of an activation: `round(input / divisor / scale) + zero_point`.

    Attributes:
        divisor: FloatArray [hidden]. SmoothQuant factor of each channel.
        scale: Step size.
        zero_point: Integer for 0, in [0, 255].
    """

    divisor: FloatArray
    scale: float
    zero_point: int


def input_scale(seen: MinMax, weights: FloatArray) -> InputScale:
    """Quantisation parameters of an activation from its range and the weights [hidden, num_outputs] that read it."""
    size = np.maximum(np.maximum(-seen.lowest, seen.highest), _SMALLEST)
    reach = np.maximum(np.abs(weights).max(axis=1), _SMALLEST)
    divisor = np.maximum(size**_MOVED / reach ** (1 - _MOVED), _SMALLEST).astype(np.float32)
    low = min(float((seen.lowest / divisor).min()), 0.0)
    high = max(float((seen.highest / divisor).max()), 0.0)
    scale = max((high - low) / _LARGEST_INPUT, float(_SMALLEST))
    return InputScale(divisor, scale, round(-low / scale))


def quantised_weights(weights: FloatArray, limit: int) -> tuple[NDArray[np.int8], FloatArray]:
    """Quantise weights to int8.

    Args:
        weights: FloatArray [hidden, num_outputs].
        limit: Largest integer, at most 127.

    Returns:
        Integers of the same shape in [-limit, limit], and FloatArray [num_outputs] of scales.
    """
    scales = np.maximum(np.abs(weights).max(axis=0) / limit, _SMALLEST * _SMALLEST).astype(np.float32)
    return np.rint(weights / scales).astype(np.int8), scales


def observed_inputs(watched: Mapping[str, Observer], run: Callable[[], object]) -> dict[str, MinMax]:
    """Observe activations during a run.

    Args:
        watched: Observation points by activation name.
        run: Forward passes without padding, which would count.

    Returns:
        Observed range by activation name.
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
