import numpy as np
import pytest
import torch
from torch import nn

from gliclass_rerank.runtime.quantisation import (
    FULL_WEIGHT_LIMIT,
    PAIRED_WEIGHT_LIMIT,
    MinMax,
    Observer,
    input_scale,
    observed_inputs,
    quantised_weights,
)


@pytest.mark.parametrize("limit", [FULL_WEIGHT_LIMIT, PAIRED_WEIGHT_LIMIT])
def test_weights_come_back_within_half_a_step_of_their_output(limit):
    weights = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32) * np.float32([1, 10, 0.1, 3, 0])

    integers, scales = quantised_weights(weights, limit)

    assert integers.dtype == np.int8
    assert np.abs(integers).max() == limit
    assert (np.abs(integers * scales - weights) <= scales / 2 + 1e-9).all()


def test_two_products_of_the_largest_integers_fit_in_sixteen_bits_where_they_must():
    assert 2 * 255 * PAIRED_WEIGHT_LIMIT <= np.iinfo(np.int16).max < 2 * 255 * FULL_WEIGHT_LIMIT


def test_an_input_keeps_its_zero_and_its_extremes():
    seen = MinMax(np.float32([-1, 0.5, -3]), np.float32([2, 40, -1]))
    scale = input_scale(seen, np.ones((3, 2), dtype=np.float32))

    def integers(values):
        return np.rint(np.float32(values) / scale.divisor / scale.scale) + scale.zero_point

    assert integers([0, 0, 0]).tolist() == [scale.zero_point] * 3
    assert integers(seen.lowest).min() >= -1  # the zero point is rounded
    assert integers(seen.highest).max() <= 256
    assert scale.divisor[1] > 5 * scale.divisor[0]  # a large channel leaves the others their bits


def test_inputs_are_watched_while_it_runs_and_no_longer():
    module = nn.Linear(3, 2)

    def run():
        module(torch.tensor([[[1.0, -2, 3], [4, 5, -6]]]))
        module(torch.tensor([[0.0, 9, 0]]))

    seen = observed_inputs({"it": Observer(module)}, run)["it"]

    assert seen.lowest.tolist() == [0, -2, -6]
    assert seen.highest.tolist() == [4, 9, 3]
    assert not module._forward_pre_hooks
    with pytest.raises(RuntimeError):
        observed_inputs({"it": Observer(module)}, lambda: module(torch.ones(1, 2)))
    assert not module._forward_pre_hooks
