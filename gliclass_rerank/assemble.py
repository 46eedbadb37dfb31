"""A GLiClass checkpoint that scores exactly the cosine of a sentence encoder: where training starts.

Takes any BERT that mean-pools its tokens (all-MiniLM, e5, gte, ...) and changes none of its weights. The markers are
new rows of the embedding table, copies of the special tokens in whose place they stand, so that a `shared_query` block
reads `[CLS] passage [SEP]` in the encoder's eyes; averaged tokens, normalised features and identity projectors make the
dot product the cosine. Passages see the query in no layer (`query_attention_start` is the number of layers), so it is
a bi-encoder; on request it is a start for training instead, in which passages see a little of the query and are
compared with it token by token (docs/decisions/0009-trained-head.md).

    python -m gliclass_rerank.assemble [--for-training] SENTENCE_ENCODER_FOLDER CHECKPOINT_FOLDER
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

from gliclass_rerank.checkpoint import Checkpoint, save_checkpoint
from gliclass_rerank.errors import CheckpointError
from gliclass_rerank.inputs.layout import PromptLayout
from gliclass_rerank.inputs.pieces import EXAMPLE, LABEL, SEP
from gliclass_rerank.inputs.tokenizer import TextTokenizer
from gliclass_rerank.model.build import build_model
from gliclass_rerank.model.config import ModelConfig

# The special token whose embedding each marker starts from.
_STAND_INS: Final = {LABEL: "[CLS]", SEP: "[SEP]", EXAMPLE: "[SEP]"}


# Where training starts. The query is let in halfway up, and damped, so that little of the cosine is lost: on trec_dl19
# an undamped query in every layer costs 0.05 nDCG@10, this costs nothing. The matched tokens' share was 0.6 of the
# cosine's where it did best untrained. Scale and intercept are the straight line from such logits to a cross-encoder's
# on BM25 candidates: where they are off, the first steps bend the whole encoder to move the logits (benchmarks/LOG.md).
_QUERY_KEY_BIAS: Final = -3.0
_LOGIT_SCALE: Final = 14.4
_MATCH_SCALE: Final = 0.6 * _LOGIT_SCALE
_INTERCEPT: Final = -14.76


def from_sentence_encoder(folder: str | Path, *, for_training: bool = False) -> Checkpoint:
    """Assemble a checkpoint; its logits are cosines.

    Args:
        folder: A sentence-transformers folder with a BERT, its `model.safetensors` and `tokenizer.json`.
        for_training: Let passages see the query from half of the layers on, and compare tokens; logits are then only
            close to a line over the cosines.

    Returns:
        The checkpoint, float32.

    Raises:
        CheckpointError: The folder holds another architecture or lacks a file.
    """
    source = Path(folder)
    encoder = _bert_config(source)
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.add_special_tokens(list(_STAND_INS))
    layout = PromptLayout(TextTokenizer(tokenizer), prompt_first=True)
    config = _config(encoder, tokenizer, for_training=for_training)
    model = build_model(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()  # what the source lacks (a pooler, perhaps) must not be left to chance
        model.logit_scale.fill_(1.0)
        for name, tensor in load_file(source / "model.safetensors").items():
            if name == "embeddings.position_ids":
                continue
            target = model.get_parameter(f"encoder_model.{name}")
            target[: tensor.shape[0]] = tensor
        table = model.get_parameter("encoder_model.embeddings.word_embeddings.weight")
        for marker, stand_in in _STAND_INS.items():
            table[tokenizer.token_to_id(marker)] = table[tokenizer.token_to_id(stand_in)]
        for projector in (model.text_projector, model.classes_projector):
            for linear in (projector.linear_1, projector.linear_2):
                torch.nn.init.eye_(linear.weight)
                torch.nn.init.zeros_(linear.bias)
        if for_training:
            _prepare(model)
    return Checkpoint(name=source.name, config=config, model=model, layout=layout)


def _bert_config(source: Path) -> dict[str, Any]:  # Any: JSON
    for file in ("config.json", "model.safetensors", "tokenizer.json"):
        if not (source / file).is_file():
            raise CheckpointError(f"`{source}` holds no {file}")
    encoder: dict[str, Any] = json.loads((source / "config.json").read_text(encoding="utf-8"))
    if encoder.get("model_type") != "bert":
        raise CheckpointError(f"only a BERT can be assembled, `{source}` holds {encoder.get('model_type')!r}")
    return encoder


def _prepare(model: torch.nn.Module) -> None:
    """Start values of what only training can fill; a zero last layer adds nothing and still learns."""
    model.get_parameter("logit_scale").fill_(_LOGIT_SCALE)
    model.get_parameter("query_key_bias").fill_(_QUERY_KEY_BIAS)
    model.get_parameter("token_interaction.match_scale.weight").fill_(_MATCH_SCALE)
    model.get_parameter("token_interaction.marker_mlp.2.bias").fill_(_INTERCEPT)
    first = model.get_submodule("token_interaction.marker_mlp.0")
    torch.nn.init.xavier_uniform_(first.weight, generator=torch.Generator().manual_seed(0))  # type: ignore[arg-type] # a Linear's


def _config(encoder: dict[str, Any], tokenizer: Tokenizer, *, for_training: bool) -> ModelConfig:  # Any: JSON
    num_layers = encoder["num_hidden_layers"]
    return ModelConfig.from_dict(
        {
            "encoder_config": {**encoder, "vocab_size": tokenizer.get_vocab_size()},
            "vocab_size": tokenizer.get_vocab_size(),
            "class_token_index": tokenizer.token_to_id(LABEL),
            "text_token_index": tokenizer.token_to_id(SEP),
            "example_token_index": tokenizer.token_to_id(EXAMPLE),
            "pooling_strategy": "avg",
            "class_token_pooling": "average",
            "prompt_first": True,
            "scorer_type": "simple",
            "normalize_features": True,
            "projector_hidden_act": "linear",
            "attention_plan": "shared_query",
            "query_attention_start": num_layers // 2 if for_training else num_layers,
            "query_key_bias": for_training,
            "token_interaction": for_training,
        }
    )


def main() -> None:
    """Assemble a folder from the command line; weights are written in half precision."""
    parser = argparse.ArgumentParser(description=from_sentence_encoder.__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--for-training", action="store_true", help="let passages see the query, and compare tokens")
    arguments = parser.parse_args()
    checkpoint = from_sentence_encoder(arguments.source, for_training=arguments.for_training)
    save_checkpoint(checkpoint, arguments.target, weights_dtype=torch.float16)


if __name__ == "__main__":
    main()
