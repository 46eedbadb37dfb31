"""Allowlist of backbones, with bounds of their settings.

Other backbones are refused by name, and only the keys below reach transformers: `auto_map`, kernels, files and other
repositories named in a config are never followed (docs/decisions/0024-what-a-checkpoint-may-do.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from gliclass_rerank.errors import ConfigError, shown
from gliclass_rerank.model.bounds import Bound, Flag, ListOf, Name, Number, ObjectOf, OneOf, Whole, check

MOST_LAYERS: Final = 128
MOST_TOKENS: Final = 1 << 22
_WIDTH: Final = Whole(1, 1 << 15)
_INNER: Final = Whole(1, 1 << 17)
_LAYERS: Final = Whole(1, MOST_LAYERS)
_HEADS: Final = Whole(1, 1 << 10)
_POSITIONS: Final = Whole(1, 1 << 20)
_SHARE: Final = Number(0, 1)
_TOKEN: Final = Whole(0, MOST_TOKENS, or_null=True)
_ENCODER_ONLY: Final = {"is_decoder": Flag(only=False), "add_cross_attention": Flag(only=False)}
# Unused here, kept because transformers and upstream check them against the vocabulary.
_TOKENS: Final = dict.fromkeys(("bos_token_id", "cls_token_id", "eos_token_id", "sep_token_id"), _TOKEN)

_BERT: Final[Mapping[str, Bound]] = {
    "vocab_size": Whole(1, MOST_TOKENS),
    "hidden_size": _WIDTH,
    "num_hidden_layers": _LAYERS,
    "num_attention_heads": _HEADS,
    "intermediate_size": _INNER,
    "hidden_act": Name(),
    "hidden_dropout_prob": _SHARE,
    "attention_probs_dropout_prob": _SHARE,
    "max_position_embeddings": _POSITIONS,
    "type_vocab_size": Whole(1, 1 << 10),
    "layer_norm_eps": Number(1e-20, 1),
    "pad_token_id": _TOKEN,
    **_ENCODER_ONLY,
    **_TOKENS,
}
_ROBERTA: Final[Mapping[str, Bound]] = {**_BERT, "pad_token_id": Whole(0, MOST_TOKENS)}
_DEBERTA: Final[Mapping[str, Bound]] = {
    **_BERT,
    "type_vocab_size": Whole(0, 1 << 10),
    "pad_token_id": Whole(0, MOST_TOKENS),
    "relative_attention": Flag(),
    "max_relative_positions": Whole(-1, 1 << 16),
    "position_buckets": Whole(-1, 1 << 14),
    "position_biased_input": Flag(),
    "pos_att_type": ListOf(("c2p", "p2c"), joined_by="|", longest=8),
    "norm_rel_ebd": OneOf(("layer_norm", "none")),
    "share_att_key": Flag(),
    "conv_kernel_size": Whole(0, 63),
    "conv_groups": Whole(1, 1 << 15),
    "conv_act": Name(),
    "embedding_size": _WIDTH,
    "attention_head_size": _WIDTH,
}
_KINDS: Final = ("full_attention", "sliding_attention")
_THETA: Final = Number(1, 1e12)
_MODERNBERT: Final[Mapping[str, Bound]] = {
    **{key: _BERT[key] for key in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")},
    "intermediate_size": _INNER,
    "max_position_embeddings": _POSITIONS,
    "hidden_activation": Name(),
    "norm_eps": Number(1e-20, 1),
    "norm_bias": Flag(),
    "attention_bias": Flag(),
    "mlp_bias": Flag(),
    "attention_dropout": _SHARE,
    "embedding_dropout": _SHARE,
    "mlp_dropout": _SHARE,
    "local_attention": Whole(2, 1 << 20),
    "global_attn_every_n_layers": Whole(1, MOST_LAYERS),
    "global_rope_theta": _THETA,
    "local_rope_theta": _THETA,
    "layer_types": ListOf(_KINDS, longest=MOST_LAYERS),
    "rope_parameters": ObjectOf(_KINDS, {"rope_type": OneOf(("default",)), "rope_theta": _THETA}),
    "pad_token_id": _TOKEN,
    **_TOKENS,
}
_DISTILBERT: Final[Mapping[str, Bound]] = {
    **{key: _BERT[key] for key in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")},
    "max_position_embeddings": _POSITIONS,
    "dim": _WIDTH,
    "n_layers": _LAYERS,
    "n_heads": _HEADS,
    "hidden_dim": _INNER,
    "activation": Name(),
    "dropout": _SHARE,
    "attention_dropout": _SHARE,
    "sinusoidal_pos_embds": Flag(),
    "pad_token_id": _TOKEN,
    **_TOKENS,
}
_T5: Final[Mapping[str, Bound]] = {
    **{key: _BERT[key] for key in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")},
    "d_model": _WIDTH,
    "d_kv": Whole(1, 1 << 12),
    "d_ff": _INNER,
    "num_layers": _LAYERS,
    "num_heads": _HEADS,
    "relative_attention_num_buckets": Whole(4, 1 << 12),
    "relative_attention_max_distance": Whole(2, 1 << 20),
    "dropout_rate": _SHARE,
    "layer_norm_epsilon": Number(1e-20, 1),
    "feed_forward_proj": Name(),
    "tie_word_embeddings": Flag(),
    "is_decoder": Flag(only=False),
    "pad_token_id": _TOKEN,
    **_TOKENS,
}


@dataclass(frozen=True)
class Backbone:
    """Supported backbone.

    Attributes:
        config: Name of its config class in transformers.
        model: Name of its encoder class in transformers.
        bounds: Bounds of its settings; other keys are dropped.
    """

    config: str
    model: str
    bounds: Mapping[str, Bound]


BACKBONES: Final[Mapping[str, Backbone]] = MappingProxyType(
    {
        "bert": Backbone("BertConfig", "BertModel", _BERT),
        "camembert": Backbone("CamembertConfig", "CamembertModel", _ROBERTA),
        "deberta-v2": Backbone("DebertaV2Config", "DebertaV2Model", _DEBERTA),
        "distilbert": Backbone("DistilBertConfig", "DistilBertModel", _DISTILBERT),
        "electra": Backbone("ElectraConfig", "ElectraModel", {**_BERT, "embedding_size": _WIDTH}),
        "modernbert": Backbone("ModernBertConfig", "ModernBertModel", _MODERNBERT),
        "mt5": Backbone("MT5Config", "T5EncoderModel", _T5),
        "roberta": Backbone("RobertaConfig", "RobertaModel", _ROBERTA),
        "t5": Backbone("T5Config", "T5EncoderModel", _T5),
        "umt5": Backbone("UMT5Config", "UMT5EncoderModel", _T5),
        "xlm-roberta": Backbone("XLMRobertaConfig", "XLMRobertaModel", _ROBERTA),
    }
)

# Upstream runs these with bidirectional attention through the llm2vec package; stock code would run them causally and
# silently give wrong scores.
_NEEDS_LLM2VEC: Final = frozenset({"gemma", "llama", "mistral", "qwen2"})


def known_backbone(values: Mapping[str, Any]) -> Backbone:  # Any: JSON
    """Find a config's backbone on the list and check its settings.

    Args:
        values: A checkpoint's `encoder_config` or `label_model_config`, with `model_type`.

    Returns:
        The backbone.

    Raises:
        ConfigError: The backbone is not on the list, or a value is out of bounds.
    """
    model_type = values.get("model_type")
    backbone = BACKBONES.get(model_type) if isinstance(model_type, str) else None
    if backbone is None:
        if isinstance(model_type, str) and model_type in _NEEDS_LLM2VEC:
            raise ConfigError(
                f"the backbone {model_type!r} is a decoder that GLiClass runs bidirectionally through llm2vec; "
                "this library does not support it"
            )
        known = ", ".join(f"`{name}`" for name in BACKBONES)
        raise ConfigError(
            f"the backbone {shown(model_type)} is not one of {known}, and code of a checkpoint's own is never run"
        )
    check(values, backbone.bounds, where="encoder_config.")
    return backbone


def known_settings(values: Mapping[str, Any]) -> dict[str, Any]:  # Any: JSON
    """Supported settings of a checked backbone config, `model_type` included."""
    bounds = BACKBONES[values["model_type"]].bounds
    return {key: value for key, value in values.items() if key == "model_type" or key in bounds}
