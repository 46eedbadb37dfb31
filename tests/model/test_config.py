import logging

import pytest
from tiny_checkpoints import BACKBONES, tiny_config

from gliclass_rerank.errors import ConfigError
from gliclass_rerank.model.build import build_model
from gliclass_rerank.model.config import ModelConfig

BERT = {"model_type": "bert", "vocab_size": 101, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 3}

CROSS_ATTENTION = {"scorer_type": "cross-attn", "pooling_strategy": "pass", "scorer_num_heads": 3}


def config(**values):
    return ModelConfig.from_dict({"encoder_config": BERT, **values})


def test_upstreams_defaults_fill_what_the_file_leaves_out():
    found = config()

    assert (found.architecture_type, found.attention_plan, found.query_attention_start) == ("uni-encoder", "joint", 0)
    assert (found.pooling_strategy, found.class_token_pooling, found.scorer_type) == ("first", "first", "simple")
    assert (found.hidden_size, found.vocab_size, found.encoder_layer_id) == (24, 101, -1)
    assert (found.embed_class_token, found.prompt_first, found.normalize_features) == (True, False, False)
    assert found.projector_hidden_act == "gelu"


def test_markers_without_a_place_follow_the_vocabulary():
    found = config(text_token_index=-1, example_token_index=7)

    assert (found.class_token_index, found.text_token_index, found.example_token_index) == (101, 102, 7)


def test_null_is_the_same_as_absent():
    assert config(pooling_strategy=None, hidden_size=None) == config()


def test_a_backbone_without_a_type_is_deberta():
    values = {key: value for key, value in BACKBONES["deberta-v2"].items() if key != "model_type"}

    assert ModelConfig.from_dict({"encoder_config": values, "vocab_size": 101}).shape.model_type == "deberta-v2"


@pytest.mark.parametrize(
    ("key", "known"),
    [
        ("architecture_type", "`bi-encoder`, `bi-encoder-fused`, `uni-encoder`"),
        ("pooling_strategy", "`abs_avg`, `abs_max`, `avg`, `first`, `last` and 4 more"),
        ("scorer_type", "`cross-attn`, `hopfield`, `mlp`, `simple`, `weighted-dot`"),
        ("class_token_pooling", "`average`, `first`"),
        ("attention_plan", "`joint`, `shared_query`"),
    ],
)
def test_an_unknown_choice_lists_the_known_ones(key, known):
    with pytest.raises(ConfigError) as caught:
        config(**{key: "nonsense"})

    assert str(caught.value) == f"`{key}` must be one of {known}, got 'nonsense'"


@pytest.mark.parametrize(
    "values", [{"scorer_type": "cross-attn"}, {"pooling_strategy": "pass"}], ids=["no pass", "no cross-attn"]
)
def test_cross_attention_and_pass_go_together(values):
    with pytest.raises(ConfigError, match="the scorer `cross-attn` and the pooling strategy `pass` go together, got "):
        config(**values)
    assert config(**CROSS_ATTENTION).scorer_type == "cross-attn"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({**CROSS_ATTENTION, "use_calibrator": True}, "the scorer `cross-attn` takes no calibrator"),
        ({**CROSS_ATTENTION, "scorer_num_heads": 5}, "`scorer_num_heads` must divide the encoder's width 24, got 5"),
        (
            {"scorer_type": "mlp", "hidden_size": 34},
            "the scorer 'mlp' needs a `hidden_size` equal to the encoder's width 24, got 34",
        ),
    ],
)
def test_a_scorer_that_does_not_fit_the_rest_is_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        config(**values)


def test_a_bi_encoder_needs_its_label_encoder():
    with pytest.raises(ConfigError, match="the architecture 'bi-encoder' needs `label_model_config`"):
        config(architecture_type="bi-encoder")


@pytest.mark.parametrize("start", [-1, 4])
def test_the_querys_start_lies_between_zero_and_the_number_of_layers(start):
    with pytest.raises(ConfigError) as caught:
        config(query_attention_start=start)

    assert str(caught.value) == (
        f"`query_attention_start` must be between 0 and the number of layers 3, got {start}"
    )  # fmt: skip


@pytest.mark.parametrize("model_type", ["llama", "qwen2"])
def test_a_decoder_backbone_is_refused_by_name(model_type):
    with pytest.raises(ConfigError, match=f"the backbone '{model_type}' is a decoder"):
        ModelConfig.from_dict({"encoder_config": {**BERT, "model_type": model_type}})


def test_an_unknown_backbone_is_refused_by_name():
    with pytest.raises(ConfigError, match="the backbone 'nonsense' is not one of `bert`, "):
        ModelConfig.from_dict({"encoder_config": {**BERT, "model_type": "nonsense"}})


def test_a_config_without_a_vocabulary_is_refused():
    with pytest.raises(ConfigError, match="the config gives no `vocab_size`"):
        ModelConfig.from_dict({"encoder_config": {key: BERT[key] for key in BERT.keys() - {"vocab_size"}}})


def test_unknown_keys_are_logged_and_upstreams_training_keys_are_not(caplog):
    with caplog.at_level(logging.DEBUG, logger="gliclass_rerank"):
        found = config(nonsense=1, focal_loss_alpha=0.5, architectures=["GLiClassModel"])

    assert found == config()
    assert caplog.messages == ["config keys without effect here: `nonsense`"]


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_config_survives_the_way_to_the_file_and_back(backbone):
    before = tiny_config(backbone, query_attention_start=2, attention_plan="shared_query")

    assert ModelConfig.from_dict(before.to_dict()) == before


def test_reading_a_config_changes_nothing_of_the_callers():
    encoder = dict(BERT)
    values = {"encoder_config": encoder, "class_token_index": -1}

    ModelConfig.from_dict(values)

    assert values == {"encoder_config": BERT, "class_token_index": -1}
    assert encoder == BERT


@pytest.mark.parametrize(
    ("values", "expected"), [({}, False), ({"squeeze_layers": True}, True), ({"encoder_layer_id": 1}, True)]
)
def test_it_is_known_whether_the_head_reads_every_layer(values, expected):
    assert config(**values).reads_all_layers is expected


def test_the_number_of_squeezed_layers_comes_from_the_weights():
    found = config(squeeze_layers=True)

    assert found.squeeze_inputs == 3
    assert found.with_shapes({"layer_wise_attention.W1.weight": (2, 4)}).squeeze_inputs == 4


@pytest.mark.parametrize("start", [-1, 1.5, True, 1000])
def test_candidates_start_at_a_position_that_leaves_room(start):
    with pytest.raises(ConfigError, match="`candidate_position_start` must be a whole number from 0 that leaves"):
        tiny_config("bert", attention_plan="shared_query", candidate_position_start=start)


def test_positions_of_the_querys_own_are_taken_off_the_window():
    found = tiny_config("bert", attention_plan="shared_query", candidate_position_start=8)

    assert found.max_window_tokens == found.shape.max_positions - 8


def test_relative_positions_have_no_start():
    found = tiny_config("modernbert", attention_plan="shared_query", candidate_position_start=8)

    with pytest.raises(ConfigError, match="needs a backbone with absolute positions, 'modernbert' has relative ones"):
        build_model(found)


@pytest.mark.parametrize("key", ["candidate_position_start", "query_key_bias", "token_interaction"])
def test_what_only_blocks_can_do_is_refused_under_another_plan(key):
    with pytest.raises(ConfigError) as caught:
        tiny_config("modernbert", attention_plan="joint", **{key: True})

    assert str(caught.value) == f"`{key}` needs a uni-encoder with the plan 'shared_query', got 'joint'"
