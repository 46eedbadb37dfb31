"""What the states in a passage cache depend on, and who cannot have one."""

import re

import pytest
import torch
from tiny_checkpoints import encoder_values, tiny_checkpoint, tiny_config

from gliclass_rerank.runtime.passage_precompute import states_digest, uncacheable_reason

LAYER = 2
# DeBERTa's usual head here reads all layers.
CHANGES = {"attention_plan": "shared_query", "query_attention_start": LAYER, "squeeze_layers": False}


def digest(checkpoint, layer=LAYER):
    return states_digest(checkpoint.model, layer)


@pytest.mark.parametrize(
    ("backbone", "part"),
    [
        ("bert", "embeddings.position_embeddings"),
        ("bert", "layer.1.attention.self.key"),
        ("modernbert", "encoder_model.embeddings.tok_embeddings"),
        ("modernbert", "segment_embeddings"),
        ("modernbert", "layers.1.mlp.Wo"),
        ("deberta-v2", "encoder.rel_embeddings"),
        ("deberta-v2", "layer.0.output.LayerNorm"),
    ],
)
def test_a_digest_changes_with_every_weight_below_the_layer(backbone, part):
    checkpoint = tiny_checkpoint(backbone, **CHANGES)
    before = digest(checkpoint)
    (tensor,) = (value for name, value in checkpoint.model.named_parameters() if name.endswith(f"{part}.weight"))

    with torch.no_grad():
        tensor.view(-1)[0] += 1

    assert digest(checkpoint) != before


def test_a_digest_does_not_change_with_the_layers_above_and_the_head(backbone):
    checkpoint = tiny_checkpoint(backbone, **CHANGES)
    before = digest(checkpoint)
    above = [tensor for name, tensor in checkpoint.model.named_parameters() if f".{LAYER}." in name]

    with torch.no_grad():
        for tensor in (*above, checkpoint.model.logit_scale):
            tensor.add_(1)

    assert len(above) > 3
    assert digest(checkpoint) == before
    assert digest(checkpoint, LAYER + 1) != before


@pytest.mark.parametrize("changes", [{"candidate_position_start": 5}, {"query_attention_start": 1}])
def test_a_digest_changes_with_positions_but_not_with_where_passages_begin_to_see_the_query(changes):
    before, after = (digest(tiny_checkpoint("bert", **CHANGES | more)) for more in ({}, changes))

    assert (before == after) == ("query_attention_start" in changes)


@pytest.mark.parametrize(
    ("config", "plan", "message"),
    [
        ({}, "shared_query", None),
        ({}, "joint", "a passage cache needs the plan 'shared_query', because .* under 'joint'"),
        ({"query_attention_start": 0}, "shared_query", "in this checkpoint all do"),
        ({"squeeze_layers": True}, "shared_query", "the head of this checkpoint reads all"),
        ({"encoder_layer_id": 1}, "shared_query", "the head of this checkpoint reads all"),
        (
            {
                "architecture_type": "bi-encoder",
                "label_model_config": encoder_values("bert"),
                "attention_plan": "joint",
            },
            None,
            "holds states of a uni-encoder's layers, got 'bi-encoder'",
        ),
    ],
)
def test_who_cannot_have_a_cache_is_told_why(config, plan, message):
    reason = uncacheable_reason(tiny_config("bert", **CHANGES | config), plan)

    assert reason == message or re.search(message, reason)
