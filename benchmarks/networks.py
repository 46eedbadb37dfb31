"""Random networks of the bundled model's size on both sides of a race, and words to feed them.

What they answer means nothing; how long they take does.
"""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

from gliclass_rerank.checkpoint.loading import Checkpoint, save_checkpoint
from gliclass_rerank.model.build import build_model
from gliclass_rerank.model.config import ModelConfig

# Room for a prefix of 512 tokens.
NUM_POSITIONS = 1024


def words(tokenizer: Tokenizer) -> list[str]:
    """Words that are exactly one token."""
    vocabulary = tokenizer.get_vocab()
    return sorted(word for word in vocabulary if word.isalpha() and word.isascii() and len(word) > 3)


def write_checkpoint(folder: Path, start: Checkpoint) -> None:
    """A random GLiClass of the bundled model's size as upstream has it, the query visible in all layers.

    Args:
        folder: Where to.
        start: The bundled checkpoint.
    """
    values = start.config.to_dict()
    values.update(query_attention_start=0, class_token_pooling="first", query_key_bias=False, token_interaction=False)
    values["encoder_config"] = {**values["encoder_config"], "max_position_embeddings": NUM_POSITIONS}
    config = ModelConfig.from_dict(values)
    model = build_model(config)
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    save_checkpoint(Checkpoint("random", config, model, start.layout), folder)


def write_cross_encoder(folder: Path, start: Checkpoint) -> None:
    """A random BERT of the same size with one output, for sentence-transformers; arguments as above."""
    changed = {"max_position_embeddings": NUM_POSITIONS, "num_labels": 1}
    config = BertConfig(**{**start.config.encoder_config, **changed})
    torch.manual_seed(0)
    BertForSequenceClassification(config).save_pretrained(folder)
    (folder / "tokenizer.json").write_text(start.layout.tokenizer.source, encoding="utf-8")
    BertTokenizerFast(tokenizer_file=str(folder / "tokenizer.json")).save_pretrained(folder)
