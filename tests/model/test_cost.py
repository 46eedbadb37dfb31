import math

import pytest

from gliclass_rerank.model.cost import optimal_window_tokens
from gliclass_rerank.model.encoder import backbone_shape

MINILM = backbone_shape(
    {
        "model_type": "bert",
        "hidden_size": 384,
        "num_hidden_layers": 6,
        "num_attention_heads": 12,
        "intermediate_size": 1536,
    }
)
DEBERTA = backbone_shape({"model_type": "deberta-v2", "hidden_size": 768, "num_hidden_layers": 12})
MODERNBERT = backbone_shape({"model_type": "modernbert"})


def cost_of_a_candidate_token(width, overhead, window):
    """Operations in one BERT layer, spread over the tokens that are not the query's."""
    return window * (24 * width**2 + 4 * width * window) / (window - overhead)


@pytest.mark.parametrize("overhead", [7, 19, 37])
def test_a_bert_like_window_is_near_the_square_root_of_6_d_q(overhead):
    # The formula drops the query's own length, which is what the difference is: less than twice of it.
    assert 0 <= optimal_window_tokens(MINILM, overhead) - math.sqrt(6 * 384 * overhead) <= 2 * overhead


@pytest.mark.parametrize("overhead", [1, 19, 211])
def test_no_other_window_is_cheaper(overhead):
    chosen = optimal_window_tokens(MINILM, overhead)

    cheapest = min(range(overhead + 1, 4000), key=lambda window: cost_of_a_candidate_token(384, overhead, window))

    assert abs(chosen - cheapest) <= 1  # rounded up


def test_windows_grow_with_the_query():
    windows = [optimal_window_tokens(MINILM, overhead) for overhead in (3, 11, 53, 307)]

    assert windows == sorted(set(windows))


@pytest.mark.parametrize("overhead", [1, 19, 211, 1009])
def test_deberta_windows_are_at_most_512(overhead):
    assert overhead > 500 or optimal_window_tokens(DEBERTA, overhead) > overhead
    assert optimal_window_tokens(DEBERTA, overhead) <= 512


def test_local_attention_makes_longer_windows_worthwhile():
    width_alone = optimal_window_tokens(
        backbone_shape({"model_type": "bert", "hidden_size": MODERNBERT.width, "num_attention_heads": 12}), 19
    )

    assert optimal_window_tokens(MODERNBERT, 19) > 1.3 * width_alone
