"""Our BERT against transformers' `BertModel` on the same weights."""

import pytest
import torch
from tiny_checkpoints import encoder_values, fill_at_random
from transformers import BertConfig as StockConfig
from transformers import BertModel

from gliclass_rerank.model.backbones.bert import ACTIVATIONS, Bert, BertConfig
from gliclass_rerank.model.batch import TokenRows
from gliclass_rerank.model.encoder import build_backbone
from gliclass_rerank.model.full_attention import run_backbone

LENGTHS = (13, 5, 1)


def pair(**changes):
    values = encoder_values("bert") | changes
    own = fill_at_random(build_backbone(values))
    stock = BertModel(StockConfig(**values)).eval()
    assert list(own.state_dict()) == list(stock.state_dict())
    stock.load_state_dict(own.state_dict())
    return own, stock


@torch.inference_mode()
@pytest.mark.parametrize("changes", [{}, *({"hidden_act": name} for name in ACTIVATIONS), {"layer_norm_eps": 0.1}])
def test_every_layer_of_padded_rows_is_that_of_transformers(changes):
    own, stock = pair(**changes)
    rows = TokenRows.of([tuple(range(5, 5 + length)) for length in LENGTHS], pad_id=0, device=torch.device("cpu"))

    layers = run_backbone(own, rows, all_layers=True)

    expected = stock(rows.ids, attention_mask=rows.mask.long(), output_hidden_states=True).hidden_states
    assert len(layers) == len(expected)
    for states, theirs in zip(layers, expected, strict=True):
        for row, length in enumerate(LENGTHS):
            torch.testing.assert_close(states[row, :length], theirs[row, :length], rtol=0, atol=1e-5)


@torch.inference_mode()
def test_embeddings_may_be_given_in_place_of_ids():
    own, stock = pair()
    ids = torch.tensor([[5, 9, 7]])
    given = own.get_input_embeddings()(ids).flip(1)

    found = own(inputs_embeds=given).last_hidden_state

    torch.testing.assert_close(found, stock(inputs_embeds=given).last_hidden_state, rtol=0, atol=1e-5)
    assert (found - own(ids).last_hidden_state).abs().max() > 0.1


def test_what_a_config_leaves_out_is_what_transformers_takes():
    theirs, own = StockConfig(), BertConfig.of({"model_type": "bert"})

    assert {name: getattr(theirs, name) for name in vars(own)} == vars(own)


def test_a_bert_with_a_rare_activation_is_left_to_transformers():
    assert not isinstance(build_backbone(encoder_values("bert") | {"hidden_act": "gelu_new"}), Bert)


def test_gradients_and_dropout_are_those_of_transformers():
    own, stock = pair(hidden_dropout_prob=0.3, attention_probs_dropout_prob=0.0)
    ids = torch.tensor([[5, 9, 7, 0]])
    found = []
    for model in (own, stock):
        torch.manual_seed(3)
        model.train()
        model(ids).last_hidden_state.square().sum().backward()
        found.append({name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None})

    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][name], rtol=1e-3, atol=1e-4, msg=name)
