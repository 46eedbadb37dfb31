from dataclasses import replace

import pytest
import torch
from tiny_checkpoints import tiny_checkpoint
from training_data import tiny_run

from gliclass_rerank.errors import ConfigError
from gliclass_rerank.learn.training.optimizer import (
    build_optimizer,
    clip_gradients,
    freeze,
    named_state,
    rate_factor,
    restore_state,
    set_dropout,
    set_rates,
)


def trained(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.fixture
def config(tmp_path, ranking_file):
    return tiny_run(tmp_path, tmp_path, ranking_file, weight_decay=0.1, head_learning_rate=0.5)


def test_embeddings_can_stay_as_they_are(backbone):
    model = tiny_checkpoint(backbone).model
    freeze(model, embeddings=True, layers=0)
    assert not [name for name in trained(model) if "embeddings" in name and "rel_embeddings" not in name]
    assert [name for name in trained(model) if ".0." in name]


def test_lower_layers_stay_with_what_is_below_them(backbone):
    model = tiny_checkpoint(backbone).model
    freeze(model, embeddings=False, layers=2)
    layers = {name.split("layer")[1].strip("s.")[0] for name in trained(model) if "layer." in name or "layers." in name}
    assert layers == {"2"}
    assert "encoder_model.embeddings.word_embeddings.weight" not in trained(model)
    assert {"text_projector.linear_1.weight", "logit_scale"} <= trained(model)


def test_more_layers_than_there_are_cannot_be_frozen():
    with pytest.raises(ConfigError, match="`frozen_layers` must be at most the number of layers 3, got 4"):
        freeze(tiny_checkpoint("bert").model, embeddings=False, layers=4)


def test_encoder_and_head_have_their_rates_and_only_matrices_decay(backbone, config):
    changes = {"query_key_bias": True, "token_interaction": True} if backbone == "bert" else {}
    model = tiny_checkpoint(backbone, **changes).model
    freeze(model, embeddings=False, layers=0)
    optimizer = build_optimizer(model, config)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    seen = set()
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            seen.add(name)
            is_encoder = name.startswith(("encoder_model.", "segment_embeddings."))
            assert group["peak"] == (config.encoder_learning_rate if is_encoder else 0.5), name
            is_plain = parameter.ndim < 2 or name in ("query_key_bias", "token_interaction.match_scale.weight")
            assert group["weight_decay"] == (0.0 if is_plain else 0.1), name
    assert seen == trained(model)


def test_single_numbers_of_the_head_can_have_a_rate_of_their_own(config):
    model = tiny_checkpoint("bert", query_key_bias=True, token_interaction=True).model
    optimizer = build_optimizer(model, replace(config, gate_learning_rate=7.0))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    gates = {names[id(p)] for group in optimizer.param_groups if group["peak"] == 7.0 for p in group["params"]}
    assert gates == {
        "logit_scale",
        "query_key_bias",
        "token_interaction.match_scale.weight",
        "token_interaction.marker_mlp.2.bias",
        "calibrator.mlp.6.bias",
    }


def test_frozen_weights_are_not_in_the_optimizer(config):
    model = tiny_checkpoint("bert").model
    freeze(model, embeddings=True, layers=3)
    optimizer = build_optimizer(model, config)
    assert {group["peak"] for group in optimizer.param_groups} == {0.5}


def test_freezing_everything_is_refused(config):
    model = tiny_checkpoint("bert").model.requires_grad_(False)
    with pytest.raises(ConfigError, match="everything is frozen"):
        build_optimizer(model, config)


def test_a_factor_scales_every_groups_own_rate(config):
    optimizer = build_optimizer(tiny_checkpoint("bert").model, config)
    set_rates(optimizer, 0.5)
    assert {group["lr"] for group in optimizer.param_groups} == {config.encoder_learning_rate / 2, 0.25}


def test_rates_rise_then_fall():
    def factors(schedule):
        return [rate_factor(step, 10, warmup_share=0.2, schedule=schedule) for step in range(10)]

    assert factors("linear") == pytest.approx([1 / 3, 2 / 3, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8])
    assert factors("constant") == pytest.approx([1 / 3, 2 / 3] + [1.0] * 8)
    cosine = factors("cosine")
    assert cosine[2] == 1
    assert cosine[6] == pytest.approx(0.5)
    assert cosine == sorted(cosine[:3]) + sorted(cosine[3:], reverse=True)
    assert rate_factor(0, 1, warmup_share=0.0, schedule="linear") == 1


def test_gradients_are_shortened_together_and_their_length_is_told(config):
    model = tiny_checkpoint("bert").model
    optimizer = build_optimizer(model, config)
    model.logit_scale.grad, model.text_projector.linear_1.bias.grad = torch.tensor(3.0), torch.full((24,), 4 / 24**0.5)
    assert clip_gradients(optimizer, None) == pytest.approx(5)
    assert model.logit_scale.grad == 3
    assert clip_gradients(optimizer, 1.0) == pytest.approx(5)
    assert model.logit_scale.grad.item() == pytest.approx(0.6, rel=1e-4)


def test_the_optimizers_state_survives_the_way_to_names_and_back(config):
    first, second = tiny_checkpoint("bert").model, tiny_checkpoint("bert").model
    optimizers = [build_optimizer(model, config) for model in (first, second)]
    for optimizer in optimizers:
        set_rates(optimizer, 1.0)

    def step(model, optimizer, value):
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, value)
        optimizer.step()

    step(first, optimizers[0], 0.5)
    step(second, optimizers[1], 0.5)
    fresh = build_optimizer(second, config)
    set_rates(fresh, 1.0)
    restore_state(second, fresh, named_state(second, optimizers[1]))
    step(first, optimizers[0], -0.2)
    step(second, fresh, -0.2)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_dropout_is_one_number_and_none_of_it_means_evaluation_mode():
    model = tiny_checkpoint("bert").model
    set_dropout(model, 0.25)
    assert {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)} == {0.25}
    assert model.training
    set_dropout(model, 0.0)
    assert not model.training
