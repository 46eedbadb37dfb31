"""The `shared_query` plan against the stock transformers backbone, which knows nothing of blocks."""

import dataclasses
import math

import pytest
import torch
from stock_blocks import assert_same, random_ids, stock_states
from tiny_checkpoints import BACKBONES, encoder_values, fill_at_random
from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position

from gliclass_rerank.model.backbones.deberta import _log_buckets
from gliclass_rerank.model.backbones.registry import block_runner, unsupported_reason
from gliclass_rerank.model.batch import LayerStates, TokenRows
from gliclass_rerank.model.encoder import build_backbone

NUM_LAYERS = 3
QUERY_LEN = 7
LENGTHS = (11, 5, 1)  # 11 + 7 tokens are more than ModernBERT's local window and DeBERTa's exact buckets


@pytest.fixture(params=[0, 16], ids=["prepended", "beside"], autouse=True)
def short_row(request, monkeypatch):
    """Both ways to attend to the query; without, only long rows would go the first one."""
    monkeypatch.setattr("gliclass_rerank.model.backbones.runner._SHORT_ROW", request.param)


@pytest.fixture(scope="module")
def stock_models():
    return {name: fill_at_random(build_backbone(encoder_values(name))) for name in BACKBONES}


@pytest.fixture
def stock(stock_models, backbone):
    return stock_models[backbone]


@pytest.fixture
def runner(stock, backbone):
    return block_runner(backbone, stock)


def passage_rows():
    ids = random_ids(len(LENGTHS), max(LENGTHS), seed=5)
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    return TokenRows(ids.masked_fill(~mask, 0), mask, is_padded=True)


def unpadded(ids):
    return TokenRows(ids, torch.ones_like(ids, dtype=torch.bool), is_padded=False)


@torch.no_grad()
@pytest.mark.parametrize("start", [0, 1, NUM_LAYERS])
def test_blocks_equal_the_stock_model_with_a_block_mask_over_one_row(backbone, stock, runner, start):
    query = random_ids(1, QUERY_LEN)
    rows = passage_rows()
    ids = rows.ids

    memory = runner.encode_query(query, start=start)
    (states,) = runner.encode_candidates(rows, memory)

    for row, length in enumerate(LENGTHS):
        expected = stock_states(backbone, stock, query, ids[row : row + 1, :length], start)[0]
        assert_same(memory.layers[-1][0], expected[:QUERY_LEN])
        assert_same(states[row, :length], expected[QUERY_LEN:])


@torch.no_grad()
def test_a_query_alone_goes_through_every_layer_as_in_the_stock_model(stock, runner):
    query = random_ids(1, QUERY_LEN)

    states = runner.encode_query(query, start=0, all_layers=True).layers

    expected = stock(query, output_hidden_states=True).hidden_states
    assert len(states) == NUM_LAYERS + 1
    for own, theirs in zip(states, expected, strict=True):
        assert_same(own, theirs)


@torch.no_grad()
def test_passages_that_never_see_the_query_are_the_stock_model_on_each_alone(stock, runner):
    rows = passage_rows()
    ids = rows.ids
    memory = runner.encode_query(random_ids(1, QUERY_LEN), start=NUM_LAYERS, all_layers=True)

    states = runner.encode_candidates(rows, memory, all_layers=True)

    for row, length in enumerate(LENGTHS):
        expected = stock(ids[row : row + 1, :length], output_hidden_states=True).hidden_states
        for own, theirs in zip(states, expected, strict=True):
            assert_same(own[row, :length], theirs[0])


@torch.no_grad()
@pytest.mark.parametrize("start", [0, 1, 2, NUM_LAYERS])
def test_states_below_the_start_do_not_depend_on_the_query_and_states_above_do(runner, start):
    rows = passage_rows()
    mask = rows.mask
    first, second = (
        runner.encode_candidates(
            rows, runner.encode_query(random_ids(1, length, seed=length), start=start), all_layers=True
        )
        for length in (QUERY_LEN, 13)
    )

    for layer in range(NUM_LAYERS + 1):
        if layer <= start:
            # Rotary positions shift with the query's length, which rounds the last bits differently.
            assert_same(first[layer][mask], second[layer][mask])
        else:
            assert (first[layer] - second[layer])[mask].abs().max() > 1e-2


@torch.no_grad()
def test_the_hidden_padding_of_a_group_changes_no_state(runner):
    rows = passage_rows()
    ids = rows.ids
    memory = runner.encode_query(random_ids(1, QUERY_LEN), start=0)

    (padded,) = runner.encode_candidates(rows, memory)
    (alone,) = runner.encode_candidates(unpadded(ids[1:2, : LENGTHS[1]]), memory)

    assert_same(padded[1, : LENGTHS[1]], alone[0])


@torch.no_grad()
@pytest.mark.parametrize("count", [1, 2, 100])
def test_the_first_tokens_alone_can_be_asked_of_the_last_layer(runner, count):
    rows = passage_rows()
    memory = runner.encode_query(random_ids(1, QUERY_LEN), start=0)

    (whole,) = runner.encode_candidates(rows, memory)
    (first,) = runner.encode_candidates(rows, memory, read_tokens=count)

    assert_same(first, whole[:, :count])


@torch.no_grad()
def test_a_bias_hides_the_query_by_degrees(runner):
    rows = passage_rows()
    mask = rows.mask
    query = random_ids(1, QUERY_LEN)
    memory = runner.encode_query(query, start=1)
    (unbiased,) = runner.encode_candidates(rows, memory)
    (hidden,) = runner.encode_candidates(rows, runner.encode_query(query, start=NUM_LAYERS))

    for bias, expected in ((0.0, unbiased), (-1e4, hidden)):
        (states,) = runner.encode_candidates(rows, memory, key_bias=torch.full((NUM_LAYERS, 3), bias))
        assert_same(states[mask], expected[mask])


@torch.no_grad()
def test_a_bias_of_log_two_counts_the_query_twice(stock_models):
    runner = block_runner("bert", stock_models["bert"])
    rows = passage_rows()
    mask = rows.mask
    memory = runner.encode_query(random_ids(1, QUERY_LEN), start=1)
    twice = dataclasses.replace(
        memory,
        keys_values=tuple(
            None if shared is None else tuple(torch.cat([part, part], dim=2) for part in shared)
            for shared in memory.keys_values
        ),
        num_tokens=2 * QUERY_LEN,
    )

    (biased,) = runner.encode_candidates(rows, memory, key_bias=torch.full((NUM_LAYERS, 3), math.log(2)))

    assert_same(biased[mask], runner.encode_candidates(rows, twice)[0][mask])


@torch.no_grad()
def test_a_segment_is_added_to_the_word_embeddings(stock, runner):
    rows, segment = passage_rows(), torch.randn(24)
    memory = runner.encode_query(random_ids(1, QUERY_LEN), start=0)
    (expected,) = runner.encode_candidates(rows, memory, segment=segment)

    stock.get_input_embeddings().weight.add_(segment)
    try:
        (states,) = runner.encode_candidates(rows, memory)
    finally:
        stock.get_input_embeddings().weight.sub_(segment)

    assert_same(states[rows.mask], expected[rows.mask])


@torch.no_grad()
@pytest.mark.parametrize(
    "changes",
    [
        {"share_att_key": False},
        {"pos_att_type": ["c2p"]},
        {"pos_att_type": ["p2c"]},
        {"pos_att_type": ["c2p"], "share_att_key": False},
        {"norm_rel_ebd": "none"},
        {"position_buckets": -1},
        {"position_buckets": -1, "max_relative_positions": 5},
        {"max_relative_positions": 17},
        {"position_biased_input": True},
        {"relative_attention": False, "position_biased_input": True},
    ],
    ids=str,
)
def test_every_kind_of_disentangled_attention_equals_the_stock_models(changes):
    stock = fill_at_random(build_backbone({**encoder_values("deberta-v2"), **changes}))
    runner = block_runner("deberta-v2", stock)
    query, ids = random_ids(1, QUERY_LEN), random_ids(1, 11, seed=5)

    (states,) = runner.encode_candidates(unpadded(ids), runner.encode_query(query, start=1))

    assert_same(states[0], stock_states("deberta-v2", stock, query, ids, 1)[0, QUERY_LEN:])


@pytest.mark.parametrize(("buckets", "max_position"), [(256, 512), (8, 61), (32, 1024)])
def test_log_buckets_are_those_of_transformers_at_every_distance(buckets, max_position):
    distance = torch.arange(-1100, 1101)

    own = _log_buckets(distance, buckets, max_position)

    assert own.dtype == torch.long
    assert torch.equal(own, make_log_bucket_position(distance, buckets, max_position).long())


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_three_families_are_supported(backbone):
    assert unsupported_reason(encoder_values(backbone)) is None


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (
            {"model_type": "roberta"},
            "the plan 'shared_query' needs a backbone of `bert`, `deberta-v2`, `modernbert`, got 'roberta'",
        ),
        (
            {**BACKBONES["deberta-v2"], "conv_kernel_size": 3},
            "the plan 'shared_query' does not support DeBERTa's convolution layer",
        ),
    ],
)
def test_an_unsupported_backbone_gets_a_sentence_that_says_why(config, reason):
    assert unsupported_reason(config) == reason


@torch.no_grad()
@pytest.mark.parametrize(("layer", "start"), [(0, 0), (1, 2), (2, 2), (NUM_LAYERS, NUM_LAYERS)])
def test_candidates_go_on_from_states_that_were_computed_without_the_query(runner, layer, start):
    rows = passage_rows()
    mask = rows.mask
    memory = runner.encode_query(random_ids(1, QUERY_LEN), start=start)
    (expected,) = runner.encode_candidates(rows, memory)

    below = runner.encode_below(rows, layer=layer)
    (states,) = runner.encode_candidates(
        rows, memory, cached=LayerStates(layer, below.masked_fill(~mask[..., None], 0))
    )

    assert_same(states[mask], expected[mask])
