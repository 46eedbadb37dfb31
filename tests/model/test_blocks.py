"""The `shared_query` plan against the stock transformers backbone, which knows nothing of blocks."""

import pytest
import torch
from tiny_checkpoints import BACKBONES, encoder_values, fill_at_random
from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position

from gliclass_rerank.model.blocks.deberta import _log_buckets
from gliclass_rerank.model.blocks.registry import block_runner, unsupported_reason
from gliclass_rerank.model.encoder import build_backbone

NUM_LAYERS = 3
QUERY_LEN = 7
LENGTHS = (11, 5, 1)  # 11 + 7 tokens are more than ModernBERT's local window and DeBERTa's exact buckets

# Other kernels and another order of summation move the last bits of float32. The last states are normalised, of order
# 1; ModernBERT's inner ones grow from layer to layer, so the bound is relative to the largest state where that is above 1.
TOLERANCE = 1e-5


def assert_same(own, theirs):
    assert own.shape == theirs.shape
    assert (own - theirs).abs().max() <= TOLERANCE * max(1.0, theirs.abs().max().item())


@pytest.fixture(scope="module")
def stock_models():
    return {name: fill_at_random(build_backbone(encoder_values(name))) for name in BACKBONES}


@pytest.fixture
def stock(stock_models, backbone):
    return stock_models[backbone]


@pytest.fixture
def runner(stock, backbone):
    return block_runner(backbone, stock)


def random_ids(*shape, seed=3):
    return torch.randint(5, 53, shape, generator=torch.Generator().manual_seed(seed))


def passage_rows():
    ids = random_ids(len(LENGTHS), max(LENGTHS), seed=5)
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    return ids.masked_fill(~mask, 0), mask


def block_mask(passage_len, *, sees_query):
    """True where a token of [query; passage] may look."""
    is_passage = torch.arange(QUERY_LEN + passage_len) >= QUERY_LEN
    own = is_passage[:, None] == is_passage[None, :]
    return own | (is_passage[:, None] & ~is_passage[None, :]) if sees_query else own


def additive(mask):
    return torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)[None, None]


def stock_states(backbone, model, ids, start):
    """The stock model over one whole row [query; passage] with a block mask; layers below `start` hide the query."""
    passage_len = ids.shape[1] - QUERY_LEN
    offset = 0 if backbone == "bert" else QUERY_LEN
    positions = torch.cat([torch.arange(QUERY_LEN), torch.arange(offset, offset + passage_len)])
    distance = positions[:, None] - positions[None, :]
    masks = [block_mask(passage_len, sees_query=layer >= start) for layer in range(NUM_LAYERS)]
    layers = model.layers if backbone == "modernbert" else model.encoder.layer
    if backbone == "modernbert":
        local = distance.abs() <= BACKBONES[backbone]["local_attention"] // 2
        masks = [
            mask & local if layer.attention_type == "sliding_attention" else mask
            for layer, mask in zip(layers, masks, strict=True)
        ]
    given = [mask[None, None] if backbone == "deberta-v2" else additive(mask) for mask in masks]
    hooks = [layer.register_forward_pre_hook(_with_mask(mask), with_kwargs=True) for layer, mask in zip(layers, given)]
    try:
        if backbone == "deberta-v2":
            states = model.embeddings(ids, mask=torch.ones_like(ids))
            bounds = BACKBONES[backbone]["position_buckets"], BACKBONES[backbone]["max_position_embeddings"]
            relative = make_log_bucket_position(distance, *bounds).long()[None]
            return model.encoder(states, masks[-1][None], relative_pos=relative).last_hidden_state
        mask = dict.fromkeys(model.config.layer_types) if backbone == "modernbert" else given[-1]
        return model(ids, attention_mask=mask, position_ids=positions[None]).last_hidden_state
    finally:
        for hook in hooks:
            hook.remove()


def _with_mask(mask):
    def replace(module, args, kwargs):
        if "attention_mask" in kwargs:
            return args, {**kwargs, "attention_mask": mask}
        return (args[0], mask, *args[2:]), kwargs

    return replace


@torch.no_grad()
@pytest.mark.parametrize("start", [0, 1, NUM_LAYERS])
def test_blocks_equal_the_stock_model_with_a_block_mask_over_one_row(backbone, stock, runner, start):
    query = random_ids(1, QUERY_LEN)
    ids, mask = passage_rows()

    memory = runner.encode_query(query, start=start)
    (states,) = runner.encode_candidates(ids, mask, memory)

    for row, length in enumerate(LENGTHS):
        whole = torch.cat([query, ids[row : row + 1, :length]], dim=1)
        expected = stock_states(backbone, stock, whole, start)[0]
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
    ids, mask = passage_rows()
    memory = runner.encode_query(random_ids(1, QUERY_LEN), start=NUM_LAYERS, all_layers=True)

    states = runner.encode_candidates(ids, mask, memory, all_layers=True)

    for row, length in enumerate(LENGTHS):
        expected = stock(ids[row : row + 1, :length], output_hidden_states=True).hidden_states
        for own, theirs in zip(states, expected, strict=True):
            assert_same(own[row, :length], theirs[0])


@torch.no_grad()
@pytest.mark.parametrize("start", [0, 1, 2, NUM_LAYERS])
def test_states_below_the_start_do_not_depend_on_the_query_and_states_above_do(runner, start):
    ids, mask = passage_rows()
    first, second = (
        runner.encode_candidates(
            ids, mask, runner.encode_query(random_ids(1, length, seed=length), start=start), all_layers=True
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
    ids, mask = passage_rows()
    memory = runner.encode_query(random_ids(1, QUERY_LEN), start=0)

    (padded,) = runner.encode_candidates(ids, mask, memory)
    (alone,) = runner.encode_candidates(ids[1:2, : LENGTHS[1]], None, memory)

    assert_same(padded[1, : LENGTHS[1]], alone[0])


@torch.no_grad()
def test_given_word_embeddings_take_the_place_of_the_ids(stock, runner):
    ids, mask = passage_rows()
    table = stock.get_input_embeddings()
    memory = runner.encode_query(random_ids(1, QUERY_LEN), start=0)

    (by_ids,) = runner.encode_candidates(ids, mask, memory)
    (by_vectors,) = runner.encode_candidates(ids, mask, memory, embeddings=table(ids))

    assert torch.equal(by_ids[mask], by_vectors[mask])


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
        (
            {**BACKBONES["deberta-v2"], "position_biased_input": True},
            "the plan 'shared_query' needs a DeBERTa with relative positions only",
        ),
        (
            {**BACKBONES["deberta-v2"], "relative_attention": False},
            "the plan 'shared_query' needs a DeBERTa with relative positions only",
        ),
    ],
)
def test_an_unsupported_backbone_gets_a_sentence_that_says_why(config, reason):
    assert unsupported_reason(config) == reason
