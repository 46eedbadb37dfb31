import pytest
import torch
from tiny_checkpoints import BACKBONES, encoder_values, fill_at_random

from gliclass_rerank.errors import ConfigError
from gliclass_rerank.model.batch import TokenRows
from gliclass_rerank.model.encoder import activation, backbone_shape, build_backbone
from gliclass_rerank.model.full_attention import run_backbone, token_embeddings

CPU = torch.device("cpu")


def test_building_a_backbone_never_waits_for_what_happens_to_be_in_memory(monkeypatch, backbone):
    """torch's truncated normal draws again until all values are in range: without a draw it would never end."""
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *args, **kwargs: empty(*args, **kwargs).fill_(1e9))

    def drawn_again(*args, **kwargs):
        raise AssertionError("the loop of torch's truncated normal was entered")

    monkeypatch.setattr(torch, "empty_like", drawn_again)

    assert build_backbone(encoder_values(backbone)).training is False


def test_other_threads_may_initialise_while_a_backbone_is_built():
    build_backbone(encoder_values("bert"))

    assert torch.nn.Linear(5, 7).weight.abs().sum() > 0
    assert torch.zeros(11).normal_().abs().sum() > 0


def test_a_larger_vocabulary_gives_a_larger_table():
    built = build_backbone(encoder_values("bert"), vocab_size=211)

    assert built.get_input_embeddings().weight.shape == (211, 24)


@pytest.mark.parametrize(("backbone", "positions"), [("bert", 211), ("modernbert", 211), ("deberta-v2", None)])
def test_only_relative_positions_have_no_end(backbone, positions):
    assert backbone_shape(BACKBONES[backbone]).max_positions == positions


def test_roberta_loses_the_positions_before_its_padding_id():
    assert (
        backbone_shape({"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}).max_positions
        == 512
    )


def test_t5_has_no_last_position():
    assert backbone_shape({"model_type": "t5"}).max_positions is None


def test_the_share_of_global_layers_is_read_from_modernbert():
    shape = backbone_shape(BACKBONES["modernbert"])

    assert shape.global_share == pytest.approx(1 / 3)
    assert shape.local_window == 6


@torch.no_grad()
def test_padding_changes_no_real_state(backbone):
    model = fill_at_random(build_backbone(encoder_values(backbone)))
    rows = [(2, 7, 11, 13, 17, 19, 3), (2, 23, 3)]
    together = TokenRows.of(rows, pad_id=0, device=CPU)

    layers = run_backbone(model, together, all_layers=True)

    for row, ids in enumerate(rows):
        alone = run_backbone(model, TokenRows.of([ids], pad_id=0, device=CPU), all_layers=True)
        for padded, expected in zip(layers, alone, strict=True):
            # Masked attention takes another kernel; ModernBERT's inner states grow to the order of 10.
            torch.testing.assert_close(padded[row, : len(ids)], expected[0], atol=1e-4, rtol=0)


@torch.no_grad()
def test_word_embeddings_may_be_given_in_place_of_ids(backbone):
    model = fill_at_random(build_backbone(encoder_values(backbone)))
    tokens = TokenRows.of([(2, 7, 11, 3)], pad_id=0, device=CPU)

    (by_ids,) = run_backbone(model, tokens)
    (by_vectors,) = run_backbone(model, tokens, embeddings=token_embeddings(model, tokens.ids))

    assert torch.equal(by_ids, by_vectors)


def test_an_unknown_activation_lists_known_ones():
    with pytest.raises(ConfigError, match=r"`projector_hidden_act` must be one of .*, got 'nonsense'"):
        activation("nonsense")
