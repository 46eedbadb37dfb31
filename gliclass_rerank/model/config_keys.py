"""Keys of `config.json`: bounds of what they may say, and those without effect here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gliclass_rerank.model.bounds import Bound, Flag, Name, Number, Whole
from gliclass_rerank.model.supported_backbones import MOST_LAYERS, MOST_TOKENS

_MARKER: Final = Whole(0, 2 * MOST_TOKENS)
BOUNDS: Final[Mapping[str, Bound]] = {
    "label_model_name": Name(or_null=True),
    "hidden_size": Whole(1, 1 << 16),
    "vocab_size": Whole(1, MOST_TOKENS),
    "class_token_index": _MARKER,
    "text_token_index": _MARKER,
    "example_token_index": _MARKER,
    "scorer_num_heads": Whole(1, 1 << 12),
    "scorer_mlp_hidden_size": Whole(2, 1 << 16),
    "encoder_layer_id": Whole(-MOST_LAYERS, MOST_LAYERS),
    "calibrator_hidden_size": Whole(1, 1 << 16),
    "calibrator_beta_max": Number(0, 1e6),
    "query_attention_start": Whole(-MOST_LAYERS, MOST_LAYERS),
    **dict.fromkeys(
        (
            "embed_class_token",
            "extract_text_features",
            "prompt_first",
            "normalize_features",
            "use_lstm",
            "squeeze_layers",
            "use_segment_embeddings",
            "use_calibrator",
            "calibrator_use_bias",
            "query_key_bias",
            "token_interaction",
        ),
        Flag(),
    ),
}

# Upstream's keys for losses, other architectures and saving; no effect on scores here.
IGNORED: Final = frozenset(
    [
        "architectures",
        "calibrator_dropout",
        "contrastive_loss_coef",
        "dropout",
        "dtype",
        "encoder_model_name",
        "focal_loss_alpha",
        "focal_loss_gamma",
        "focal_loss_reduction",
        "freeze_media_encoders",
        "id2label",
        "ignore_index",
        "initializer_range",
        "is_composition",
        "label2id",
        "layer_wise",
        "logit_scale_init_value",
        "max_labels_alloc",
        "max_num_classes",
        "model_type",
        "multimodal",
        "pad_token_id",
        "problem_type",
        "recurrent_bptt_steps",
        "recurrent_confidence_coef",
        "recurrent_confidence_margin",
        "recurrent_confidence_mode",
        "recurrent_halt_threshold",
        "recurrent_improvement_coef",
        "recurrent_improvement_margin",
        "recurrent_inference",
        "recurrent_inference_max_steps",
        "recurrent_min_steps",
        "recurrent_read_text",
        "recurrent_steps",
        "scorer_attn_dropout",
        "scorer_encoder_num_layers",
        "scorer_full_sequence",
        "shuffle_labels",
        "torch_dtype",
        "transformers_version",
        "use_embedding_projection",
    ]
)
