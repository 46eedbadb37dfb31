"""Batches of few different numbers of tokens."""

import pytest
import torch
from tiny_checkpoints import tiny_checkpoint
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from gliclass_rerank.model.backbones.attention import attend_beside
from gliclass_rerank.model.bucketing import filling
from gliclass_rerank.runtime.bucketing import fill_layers
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

    fill_layers(module)

    assert module[0](states).shape == expected.shape
    torch.testing.assert_close(module[0](states), expected)
    assert {name: id(weight) for name, weight in module.named_parameters()} == {
        name: id(weight) for name, weight in weights.items()
    }


@pytest.mark.parametrize("backbone", ["bert", "deberta-v2"])
@pytest.mark.parametrize(("dtype", "is_filled"), [(torch.bfloat16, True), (torch.float32, False)])
def test_a_backbone_in_half_precision_meets_few_lengths(monkeypatch, backbone, dtype, is_filled):
    checkpoint = tiny_checkpoint(backbone)
    backend = TorchNetwork(
        checkpoint.model, resolve_runtime(checkpoint.config, backend="torch", device="cpu", dtype=dtype)
    )
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


class Shapes(TorchDispatchMode):
    """Keeps the shapes that oneDNN would prepare itself for in half precision."""

    OPERATORS = ("aten.matmul", "aten.bmm", "aten.linear", "aten.gelu")

    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        tensors = [each for each in args if isinstance(each, torch.Tensor)]
        if str(function).startswith(self.OPERATORS) and tensors[0].dtype == torch.bfloat16:
            self.seen.add((str(function), *(tuple(each.shape) for each in tensors)))
        return function(*args, **kwargs or {})


def test_rows_and_queries_of_all_lengths_become_few_shapes_in_half_precision():
    checkpoint = tiny_checkpoint("bert")
    backend = TorchNetwork(
        checkpoint.model, resolve_runtime(checkpoint.config, backend="torch", device="cpu", dtype="bfloat16")
    )
    label = checkpoint.config.class_token_index

    def shapes(lengths):
        with Shapes() as found:
            for length in lengths:
                for rows in (1, 2, 3):
                    candidates = ((label, *(7,) * length, 3),) * rows
                    backend.block_logits(Blocks((2, *(11,) * (2 * length), 3), candidates), [range(rows)], {}, 0)
        return found.seen

    assert shapes(range(1, 9))
    assert shapes(range(1, 9)) == shapes((1, 3, 8)), "what lies in between has a shape of its own"


@pytest.mark.parametrize("num_rows", [1, 3])
@pytest.mark.parametrize("has_mask", [True, False])
def test_attention_beside_in_half_precision_is_that_of_full_precision(num_rows, has_mask):
    generator = torch.Generator().manual_seed(3)

    def numbers(*shape):
        return torch.randn(*shape, generator=generator).bfloat16()

    query, own = numbers(num_rows, 2, 5, 8), (numbers(num_rows, 2, 5, 8), numbers(num_rows, 2, 5, 8))
    shared = numbers(1, 2, 37, 8), numbers(1, 2, 37, 8)
    mask = torch.arange(42) < 40 if has_mask else None

    found = attend_beside(query, shared, own, mask)
    exact = attend_beside(
        query.float(), tuple(each.float() for each in shared), tuple(each.float() for each in own), mask
    )

    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), exact, atol=0.03, rtol=0.02)
