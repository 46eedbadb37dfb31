import pytest
import torch
from tiny_checkpoints import fill_at_random

from gliclass_rerank.model.squeeze import LayerwiseAttention

NUM_LAYERS = 5


def states(num_windows=2, seq_len=7, hidden=11):
    """The embedding output and every layer's output."""
    stacked = torch.randn(NUM_LAYERS + 1, num_windows, seq_len, hidden, generator=torch.Generator().manual_seed(2))
    return list(stacked)


def attention(num_inputs):
    return fill_at_random(LayerwiseAttention(num_inputs, 11))


ALL = torch.ones(2, 7, dtype=torch.bool)


@torch.no_grad()
def test_equal_gates_of_one_half_give_half_the_sum_of_the_layers():
    module = attention(NUM_LAYERS)
    module.W2.weight.zero_()
    module.W2.bias.zero_()
    torch.nn.init.eye_(module.output_projection.weight)
    module.output_projection.bias.zero_()
    layers = states()

    # A sum of five numbers of order 1.
    torch.testing.assert_close(module(layers, ALL), sum(layers[1:]) / 2, atol=1e-6, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize(("num_inputs", "reads_embeddings"), [(NUM_LAYERS, False), (NUM_LAYERS + 1, True)])
def test_weights_of_the_layers_number_drop_the_embedding_output(num_inputs, reads_embeddings):
    module, layers = attention(num_inputs), states()

    changed = module([layers[0] + 1, *layers[1:]], ALL)

    assert torch.equal(changed, module(layers, ALL)) is not reads_embeddings


@torch.no_grad()
def test_padding_changes_no_real_token():
    module, layers = attention(NUM_LAYERS), states()
    mask = torch.arange(7) < torch.tensor([7, 3])[:, None]

    fused = module(layers, mask)

    alone = module([layer[1:, :3] for layer in layers], mask[1:, :3])
    # Squeezing sums over zeros too, which may reorder the sum of numbers of order 10.
    torch.testing.assert_close(fused[1, :3], alone[0], atol=1e-5, rtol=0)


@torch.no_grad()
def test_each_row_has_gates_of_its_own():
    module, layers = attention(NUM_LAYERS), states()
    other = [layer.clone() for layer in layers]
    for layer in other:
        layer[1] += 1

    assert torch.equal(module(other, ALL)[0], module(layers, ALL)[0])
