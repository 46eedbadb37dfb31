"""Packed passes against padded ones: the same numbers from the same weights, whatever shares the pass."""

import random

import pytest
import torch
from tiny_checkpoints import tiny_checkpoint

from gliclass_rerank.model.backbones.packed_attention import VarlenAttention
from gliclass_rerank.model.backbones.packed_reference import dense_attention, plain_kernel
from gliclass_rerank.model.batch import Collator
from gliclass_rerank.model.packed_scores import packed_block_logits, packed_window_logits
from gliclass_rerank.model.packing import Packer
from gliclass_rerank.types import Blocks, Window

CPU = torch.device("cpu")
# Other kernels and another order of summation move the last bits of float32; logits are of order 1.
TOLERANCE = 3e-5
OURS = {"class_token_pooling": "first", "pooling_strategy": "first", "use_calibrator": False}
BLOCK_CASES = {
    "plain": {},
    "marker": OURS,
    "after the marker": {**OURS, "embed_class_token": False},
    "averaged after the marker": {"class_token_pooling": "average", "embed_class_token": False},
    "late query": {"query_attention_start": 2},
    "never a query": {"query_attention_start": 3},
    "key bias": {"query_key_bias": True, "query_attention_start": 1},
    "interaction": {"token_interaction": True},
    "segments": {"use_segment_embeddings": True},
    "lstm": {"use_lstm": True},
    "weighted dot": {"scorer_type": "weighted-dot"},
    "hopfield": {"scorer_type": "hopfield"},
    "cross attention": {
        "use_calibrator": False,
        "scorer_type": "cross-attn",
        "pooling_strategy": "pass",
        "scorer_num_heads": 2,
    },
    "max": {"pooling_strategy": "max"},
    "last": {"pooling_strategy": "last"},
}
WINDOW_CASES = {
    "plain": {},
    "average": {"class_token_pooling": "average"},
    "text features": {"extract_text_features": True, "class_token_pooling": "average"},
    "segments": {"use_segment_embeddings": True},
    "lstm": {"use_lstm": True},
    "hopfield": {"scorer_type": "hopfield"},
}


def prepared(backbone, **changes):
    checkpoint = tiny_checkpoint(backbone, **{"attention_plan": "shared_query", **changes})
    if checkpoint.model.query_key_bias is not None:
        torch.nn.init.uniform_(checkpoint.model.query_key_bias, -2, 2)
    checkpoint.model.blocks.prepare_packed()
    return checkpoint


def packer_of(checkpoint):
    blocks = checkpoint.model.blocks
    return Packer.of(
        checkpoint.config,
        CPU,
        positions_are_absolute=blocks.positions_are_absolute,
        attends=blocks.reach[-1] is not None,
    )


def requests(config, *, query_lengths=(7, 3, 40), seed=5, with_examples=False):
    """Blocks of several queries; passages of 0 to 60 tokens, one of them blank."""
    rng = random.Random(seed)
    tokens = lambda count: tuple(rng.randint(5, 52) for _ in range(count))  # noqa: E731
    example = (config.example_token_index,) if with_examples else ()
    return [
        Blocks(
            (2, *tokens(length), *example, 3),
            tuple((config.class_token_index, *tokens(count), 3) for count in (0, rng.randint(1, 60), 1, 9)),
        )
        for length in query_lengths
    ]


def windows(config, seed=5):
    rng = random.Random(seed)
    found = []
    for num_candidates, length in ((1, 3), (5, 4), (2, 30)):
        ids, markers = [2], []
        for _ in range(num_candidates):
            markers.append(len(ids))
            ids += [config.class_token_index, *(rng.randint(5, 52) for _ in range(rng.randint(0, length)))]
        start = len(ids)
        ids += [config.text_token_index, *(rng.randint(5, 52) for _ in range(7)), 3]
        found.append(Window(tuple(ids), tuple(markers), start))
    return found


@torch.inference_mode()
def padded_blocks(checkpoint, items):
    collate, logits = Collator.of(checkpoint.config, CPU), []
    for item in items:
        groups = [[number] for number in range(len(item.candidate_ids))]
        logits += checkpoint.model.score_blocks(collate.blocks(item, groups)).tolist()
    return logits


@torch.inference_mode()
def packed_blocks(checkpoint, items, attend=dense_attention):
    return packed_block_logits(checkpoint.model, packer_of(checkpoint).blocks(items), attend).tolist()


@pytest.fixture(params=["bert", "modernbert"])
def packable(request):
    return request.param


@pytest.mark.parametrize("case", BLOCK_CASES)
def test_packed_blocks_score_as_padded_ones(packable, case):
    checkpoint = prepared(packable, **BLOCK_CASES[case])
    items = requests(checkpoint.config, with_examples=case == "segments")

    found = packed_blocks(checkpoint, items)

    assert found == pytest.approx(padded_blocks(checkpoint, items), abs=TOLERANCE, rel=TOLERANCE)


@pytest.mark.parametrize("case", WINDOW_CASES)
def test_packed_windows_score_as_padded_ones(packable, case):
    checkpoint = prepared(packable, **{"attention_plan": "joint", **WINDOW_CASES[case]})
    items = windows(checkpoint.config)
    with torch.inference_mode():
        batch = Collator.of(checkpoint.config, CPU).windows(items)
        expected = checkpoint.model.score_windows(batch)

        found = packed_window_logits(checkpoint.model, packer_of(checkpoint).windows(items), dense_attention)

    assert found[batch.marker_mask].tolist() == pytest.approx(
        expected[batch.marker_mask].tolist(), abs=TOLERANCE, rel=TOLERANCE
    )


@pytest.mark.parametrize("changes", [{}, {"query_attention_start": 1}], ids=str)
@pytest.mark.parametrize("query_lengths", [(7, 3, 40), (5, 130)], ids=["gathered", "in two parts"])
def test_sequences_of_different_lengths_score_as_the_dense_reference(packable, changes, query_lengths):
    checkpoint = prepared(packable, **OURS, **changes)
    items = requests(checkpoint.config, query_lengths=query_lengths)

    found = packed_blocks(checkpoint, items, VarlenAttention(plain_kernel))

    assert found == pytest.approx(packed_blocks(checkpoint, items), abs=TOLERANCE)


def test_a_bias_of_the_querys_keys_shifts_their_part():
    checkpoint = prepared("bert", query_key_bias=True, query_attention_start=1, **OURS)
    items = requests(checkpoint.config)

    found = packed_blocks(checkpoint, items, VarlenAttention(plain_kernel))

    assert found == pytest.approx(padded_blocks(checkpoint, items), abs=TOLERANCE, rel=TOLERANCE)


def test_absolute_positions_start_where_the_config_says():
    checkpoint = prepared("bert", candidate_position_start=32, use_segment_embeddings=True, **OURS)
    items = requests(checkpoint.config)

    found = packed_blocks(checkpoint, items, VarlenAttention(plain_kernel))

    assert found == pytest.approx(padded_blocks(checkpoint, items), abs=TOLERANCE, rel=TOLERANCE)


def test_other_queries_of_a_pass_change_no_logit(packable):
    checkpoint = prepared(packable, token_interaction=True)
    items = requests(checkpoint.config)

    alone = [logit for item in items for logit in packed_blocks(checkpoint, [item])]

    assert alone == pytest.approx(packed_blocks(checkpoint, items), abs=TOLERANCE)


def test_a_pass_has_no_padding_and_its_last_layer_computes_what_is_read(packable):
    checkpoint = prepared(packable, **OURS)
    items = requests(checkpoint.config)

    batch = packer_of(checkpoint).blocks(items).sequences

    own = [item.token_ids if isinstance(item, Window) else item.query_ids for item in items]
    assert batch.num_tokens == sum(map(len, own)) + sum(len(ids) for item in items for ids in item.candidate_ids)
    local = checkpoint.model.blocks.reach[-1] is not None
    assert (batch.read is batch.all) is local
    assert local or batch.read.index.shape[0] == 3 + 12


def test_the_projections_stay_the_models_weights(tmp_path):
    checkpoint, packed = tiny_checkpoint("bert"), prepared("bert")

    expected, found = checkpoint.model.state_dict(), packed.model.state_dict()

    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    weight = packed.model.encoder_model.encoder.layer[0].attention.self.key.weight
    assert weight.data_ptr() != weight.untyped_storage().data_ptr()


@pytest.mark.slow
@pytest.mark.parametrize(("packable", "most_graphs"), [("bert", 4), ("modernbert", 6)], indirect=["packable"])
def test_layers_compile_without_breaks_and_once_for_all_numbers_of_tokens(packable, most_graphs):
    torch._dynamo.reset()
    counters = torch._dynamo.utils.counters
    counters.clear()
    checkpoint = prepared(packable, **OURS)
    cases = [requests(checkpoint.config, query_lengths=lengths) for lengths in ((7, 3), (9, 2, 40), (5, 6, 7, 8))]
    expected = [packed_blocks(checkpoint, items) for items in cases]

    checkpoint.model.blocks.compile_packed(backend="aot_eager")
    found = [packed_blocks(checkpoint, items) for items in cases]

    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, abs=TOLERANCE)
    assert 0 < counters["stats"]["unique_graphs"] <= most_graphs
