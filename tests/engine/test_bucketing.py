"""Batches of few different numbers of tokens."""

import pytest
import torch
from tiny_checkpoints import tiny_checkpoint
from torch import nn

from gliclass_rerank.runtime.bucketing import fill_linear_layers, filling
from gliclass_rerank.runtime.executor import TorchNetwork
from gliclass_rerank.runtime.resolve import resolve_runtime
from gliclass_rerank.types import Blocks


def test_thousands_of_lengths_become_few():
    filled = {tokens + filling(tokens) for tokens in range(1, 2049)}

    assert filled == {32, 64, 96, *range(128, 2049, 128)}
    assert filling(0) == 0


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5,), (1, 5), (2, 3, 5), (4, 8, 5), (0, 5)])
def test_a_filled_layer_gives_what_it_gave(bias, shape):
    module = nn.Sequential(nn.Linear(5, 7, bias=bias), nn.ModuleDict({"inner": nn.Linear(7, 7)}))
    states = torch.randn(shape)
    expected, weights = module[0](states), dict(module.named_parameters())

    fill_linear_layers(module)

    assert module[0](states).shape == expected.shape
    torch.testing.assert_close(module[0](states), expected)
    assert {name: id(weight) for name, weight in module.named_parameters()} == {
        name: id(weight) for name, weight in weights.items()
    }


@pytest.mark.parametrize("backbone", ["bert", "deberta-v2"])
@pytest.mark.parametrize(("dtype", "is_filled"), [(torch.bfloat16, True), (torch.float32, False)])
def test_a_backbone_in_half_precision_meets_few_lengths(monkeypatch, backbone, dtype, is_filled):
    checkpoint = tiny_checkpoint(backbone)
    backend = TorchNetwork(checkpoint.model, resolve_runtime(checkpoint.config, device="cpu", dtype=dtype))
    label, met, linear = checkpoint.config.class_token_index, set(), torch.nn.functional.linear

    def watched(states, weight, bias=None):
        if weight.dtype == dtype:
            met.add(states.shape[:-1].numel())
        return linear(states, weight, bias)

    monkeypatch.setattr(torch.nn.functional, "linear", watched)
    for length in (3, 11, 37):
        backend.block_logits(Blocks((2, 11, 13, 3), ((label, *(7,) * length, 3),) * 2), [[0, 1]], {}, 0)

    if is_filled:
        assert met == {32, 96}
    else:
        assert {10, 26, 78} <= met
