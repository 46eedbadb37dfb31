import math

import pytest
import torch

from gliclass_rerank.model.pooling import POOLERS

# Two windows, three tokens, two features; the second window has one token less, its padding holds a large number.
STATES = torch.tensor([[[1.0, -4.0], [2.0, 6.0], [-3.0, 1.0]], [[5.0, -1.0], [-2.0, 3.0], [99.0, -99.0]]])
MASK = torch.tensor([[True, True, True], [True, True, False]])

EXPECTED = {
    "first": [[1.0, -4.0], [5.0, -1.0]],
    "last": [[-3.0, 1.0], [-2.0, 3.0]],
    "max": [[2.0, 6.0], [5.0, 3.0]],
    "avg": [[0.0, 1.0], [1.5, 1.0]],
    "sum": [[0.0, 3.0], [3.0, 2.0]],
    "rms": [[math.sqrt(14 / 3), math.sqrt(53 / 3)], [math.sqrt(29 / 2), math.sqrt(10 / 2)]],
    "abs_max": [[3.0, 6.0], [5.0, 3.0]],
    "abs_avg": [[2.0, 11 / 3], [3.5, 2.0]],
}


def test_every_pooler_that_gives_one_vector_is_covered_here():
    assert set(EXPECTED) == set(POOLERS) - {"pass"}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_pooler_gives_the_expected_numbers(name):
    pooled = POOLERS[name](STATES, MASK)

    # A handful of float32 operations on numbers below 10.
    torch.testing.assert_close(pooled, torch.tensor(EXPECTED[name]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", EXPECTED)
def test_padding_changes_nothing(name):
    states = torch.randn(2, 7, 11, generator=torch.Generator().manual_seed(1))
    mask = torch.arange(7) < torch.tensor([7, 3])[:, None]

    pooled = POOLERS[name](states, mask)

    assert pooled.shape == (2, 11)
    for row, length in enumerate([7, 3]):
        alone = POOLERS[name](states[row : row + 1, :length], mask[row : row + 1, :length])
        # The sum runs over zeros too, which may reorder it.
        torch.testing.assert_close(pooled[row], alone[0], atol=1e-6, rtol=0)


def test_pass_keeps_every_state():
    assert torch.equal(POOLERS["pass"](STATES, MASK), STATES)
