"""Every backbone of the list against a stock `AutoModel` run, and everything else refused."""

from __future__ import annotations

import inspect
import re
import sys

import pytest
import torch
import transformers
from tiny_checkpoints import fill_at_random
from transformers import AutoConfig, AutoModel, MT5EncoderModel, T5EncoderModel, UMT5EncoderModel

from gliclass_rerank.errors import ConfigError
from gliclass_rerank.model.batch import TokenRows
from gliclass_rerank.model.encoder import backbone_shape, build_backbone
from gliclass_rerank.model.full_attention import run_backbone
from gliclass_rerank.model.supported_backbones import BACKBONES, known_backbone, known_settings

BERT = {
    "vocab_size": 61,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 37,
    "max_position_embeddings": 43,
    "pad_token_id": 1,
}
T5 = {"vocab_size": 61, "d_model": 24, "d_kv": 8, "d_ff": 37, "num_layers": 2, "num_heads": 3, "pad_token_id": 1}
DEBERTA = {"relative_attention": True, "position_buckets": 8, "pos_att_type": ["c2p", "p2c"], "share_att_key": True}
TOKENS = dict.fromkeys(("bos_token_id", "cls_token_id", "eos_token_id", "sep_token_id"), 2)
TINY = {
    "bert": {**BERT, "hidden_act": "gelu_new"},
    "camembert": BERT,
    "deberta-v2": {**BERT, **DEBERTA},
    "distilbert": {**{key: BERT[key] for key in ("vocab_size", "max_position_embeddings")}, "pad_token_id": 1}
    | {"dim": 24, "n_layers": 2, "n_heads": 3, "hidden_dim": 37},
    "electra": {**BERT, "embedding_size": 13},
    "modernbert": {**BERT, **TOKENS, "global_attn_every_n_layers": 2, "local_attention": 4},
    "mt5": T5,
    "roberta": BERT,
    "t5": {**T5, "feed_forward_proj": "gated-gelu"},
    "umt5": T5,
    "xlm-roberta": BERT,
}
ENCODERS = {"mt5": MT5EncoderModel, "t5": T5EncoderModel, "umt5": UMT5EncoderModel}
# What a listed encoder's code reads of its config and a checkpoint cannot set: heads of other tasks, decoders, what is
# given at each call, and what is derived from settings that it can set.
OF_NO_CONCERN = {
    *("chunk_size_feed_forward", "classifier_dropout", "decoder_start_token_id", "dense_act_fn", "initializer_factor"),
    *("is_encoder_decoder", "is_gated_act", "num_decoder_layers", "num_labels", "output_attentions", "problem_type"),
    *("output_hidden_states", "return_dict", "scale_decoder_outputs", "sliding_window", "use_cache", "legacy"),
    *("classifier_activation", "classifier_bias", "classifier_pooling", "decoder_bias", "deterministic_flash_attn"),
    *("initializer_cutoff_factor", "initializer_range", "pooler_dropout", "pooler_hidden_act", "pooler_hidden_size"),
    *("qa_dropout", "seq_classif_dropout", "sparse_pred_ignore_index", "sparse_prediction", "summary_first_dropout"),
    *("summary_last_dropout", "summary_proj_to_labels", "summary_use_proj", "summary_type", "summary_activation"),
    *("cls_dropout", "tie_word_embeddings", "_attn_implementation", "head_dim"),
}


def test_every_listed_backbone_has_a_tiny_one_here():
    assert TINY.keys() == BACKBONES.keys()


@torch.no_grad()
@pytest.mark.parametrize("model_type", BACKBONES)
def test_a_listed_backbone_is_the_stock_model(model_type):
    values = {"model_type": model_type, **TINY[model_type]}
    own = fill_at_random(build_backbone(values))
    config = AutoConfig.for_model(**values)
    kind = ENCODERS.get(model_type)
    stock = (AutoModel.from_config(config) if kind is None else kind(config)).eval()
    stock.load_state_dict(own.state_dict())
    rows = TokenRows.of([(2, 7, 11, 13, 17, 19, 23, 3), (2, 29, 3)], pad_id=1, device=torch.device("cpu"))

    layers = run_backbone(own, rows, all_layers=True)

    expected = stock(input_ids=rows.ids, attention_mask=rows.mask.long(), output_hidden_states=True).hidden_states
    assert len(layers) == len(expected) == 3
    for states, theirs in zip(layers, expected, strict=True):
        torch.testing.assert_close(states[rows.mask], theirs[rows.mask], rtol=0, atol=1e-5)


@pytest.mark.parametrize("model_type", BACKBONES)
def test_every_setting_that_a_listed_backbones_code_reads_can_be_made(model_type):
    module = sys.modules[getattr(transformers, BACKBONES[model_type].model).__module__]
    source = inspect.getsource(module)
    read = set(re.findall(r"config\.(\w+)", source)) | set(re.findall(r'getattr\(config, "(\w+)"', source))

    assert read - BACKBONES[model_type].bounds.keys() <= OF_NO_CONCERN


def test_of_a_config_only_what_has_a_meaning_is_passed_on():
    places = {
        "auto_map": {"AutoModel": "code.Model"},
        "_name_or_path": "somebody/elsewhere",
        "_attn_implementation": "somebody/kernel",
        "attn_implementation": "somebody/kernel",
        "backbone": "resnet18",
        "quantization_config": {"quant_method": "awq"},
        "use_kernels": True,
        "dtype": "float16",
    }

    assert known_settings({"model_type": "bert", "hidden_size": 24, **places}) == {
        "model_type": "bert",
        "hidden_size": 24,
    }


@pytest.mark.parametrize(
    ("model_type", "changes", "problem"),
    [
        (
            "bert",
            {"num_hidden_layers": 100_000},
            r"`encoder_config\.num_hidden_layers` must be a whole number from 1 to",
        ),
        ("bert", {"is_decoder": True}, r"`encoder_config\.is_decoder` must be false, got True"),
        ("bert", {"layer_norm_eps": float("nan")}, r"a number from 1e-20 to 1, got nan"),
        ("bert", {"hidden_act": "nonsense"}, r"`encoder_config\.hidden_act` must be one of .*, got 'nonsense'"),
        ("electra", {"num_attention_heads": 5}, r"heads must divide its width 24, got 5"),
        ("bert", {"pad_token_id": 61}, r"`pad_token_id` must be below its `vocab_size` 61, got 61"),
        (
            "roberta",
            {"max_position_embeddings": 2},
            r"positions start after its `pad_token_id` 1, which leaves none of 2",
        ),
        ("deberta-v2", {"conv_kernel_size": 4}, r"`conv_kernel_size` must be odd, got 4"),
        ("deberta-v2", {"conv_groups": 5}, r"`conv_groups` must divide its width 24, got 5"),
        ("deberta-v2", {"attention_head_size": 7}, r"heads must make up its width 24 together"),
        ("deberta-v2", {"position_buckets": 1}, r"`position_buckets` must be from 2 to 82 with 43 positions, got 1"),
        ("deberta-v2", {"pos_att_type": "c2p|p2x"}, r"must be a list of `c2p`, `p2c`, got 'c2p|p2x'"),
        ("modernbert", {"num_attention_heads": 8}, r"heads must have an even width"),
        ("modernbert", {"layer_types": ["full_attention"]}, r"not one of ModernBertConfig"),
        ("modernbert", {"rope_parameters": {"full_attention": {"rope_type": "yarn"}}}, r"rope_parameters` must be an"),
        ("t5", {"relative_attention_max_distance": 8}, r"must be above a quarter of its 32 buckets, got 8"),
        ("t5", {"feed_forward_proj": "gated-nonsense"}, r"encoder_config\.dense_act_fn` must be one of"),
        ("t5", {"feed_forward_proj": "a-b-c"}, r"the backbone's config is not one of T5Config"),
    ],
)
def test_a_setting_out_of_bounds_is_refused_before_anything_is_built(model_type, changes, problem):
    with pytest.raises(ConfigError, match=problem):
        backbone_shape({"model_type": model_type, **TINY[model_type], **changes})


@pytest.mark.parametrize("model_type", ["blip_text_model", "gpt2", "vit", "x" * 1000, None, 3, ["bert"], {}])
def test_what_is_not_listed_is_refused_by_name(model_type):
    with pytest.raises(ConfigError, match="is not one of `bert`, `camembert`, ") as caught:
        known_backbone({"model_type": model_type})

    assert len(str(caught.value)) < 330
