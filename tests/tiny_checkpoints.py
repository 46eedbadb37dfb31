"""Tiny random checkpoints of three backbones, made by our own code alone, so that these tests need no other package.

Weights are enlarged: with transformers' own initialisation attention is almost flat, and a wrong mask or position would
hide below every tolerance.
"""

from __future__ import annotations

import dataclasses
import json
import math
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import BPE, Unigram, WordLevel, WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer, ByteLevel, Metaspace, Whitespace
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer, Trainer, UnigramTrainer
from torch import nn

from gliclass_rerank.checkpoint.loading import Checkpoint, save_checkpoint
from gliclass_rerank.model.build import build_model
from gliclass_rerank.model.config import ModelConfig
from gliclass_rerank.prompt.layout import PromptLayout
from gliclass_rerank.prompt.tokenizer import TextTokenizer

_VOCABULARY = (
    "bell bike boot brake cable chain clean cog cold crank dirt drop dry fork frame gear grease grip hand hill hub kit "
    "lamp link loose lube nut oil pad patch pedal pump rack ride rim road rust saddle seat shift slip spoke squeal "
    "tire torque tube valve wax wheel wrench"
)
WORDS = tuple(_VOCABULARY.split())
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
MARKERS = ("<<LABEL>>", "<<SEP>>", "<<EXAMPLE>>")
_LETTERS = string.ascii_lowercase + string.digits + string.punctuation

BACKBONES: dict[str, dict[str, Any]] = {
    "bert": {
        "model_type": "bert",
        "hidden_size": 24,
        "num_hidden_layers": 3,
        "num_attention_heads": 3,
        "intermediate_size": 37,
        "max_position_embeddings": 211,
    },
    # Layer 0 is global, layers 1 and 2 see 3 tokens to either side.
    "modernbert": {
        "model_type": "modernbert",
        "hidden_size": 24,
        "num_hidden_layers": 3,
        "num_attention_heads": 3,
        "intermediate_size": 37,
        "max_position_embeddings": 211,
        "global_attn_every_n_layers": 3,
        "local_attention": 6,
        "bos_token_id": 2,
        "cls_token_id": 2,
        "eos_token_id": 3,
        "sep_token_id": 3,
    },
    # As DeBERTa-v3; few buckets, so that most distances are on the log scale.
    "deberta-v2": {
        "model_type": "deberta-v2",
        "hidden_size": 24,
        "num_hidden_layers": 3,
        "num_attention_heads": 3,
        "intermediate_size": 37,
        "max_position_embeddings": 61,
        "relative_attention": True,
        "max_relative_positions": -1,
        "position_buckets": 8,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_biased_input": False,
        "type_vocab_size": 0,
    },
}

# Different heads, so that the invariances are shown for what a head could spoil as well. With normalised features
# `logit_scale` keeps the logits of order 1, so that tests can bound their differences absolutely.
HEADS: dict[str, dict[str, Any]] = {
    "bert": {
        "attention_plan": "shared_query",
        "pooling_strategy": "avg",
        "class_token_pooling": "average",
        "prompt_first": True,
        "use_calibrator": True,
        "calibrator_hidden_size": 13,
    },
    "modernbert": {"scorer_type": "mlp", "use_segment_embeddings": True, "prompt_first": False},
    "deberta-v2": {"scorer_type": "hopfield", "squeeze_layers": True, "use_lstm": True, "prompt_first": True},
}

# What brings the logits of each of these random heads to order 1.
_LOGIT_SCALES = {"bert": 12.0, "modernbert": 2.0, "deberta-v2": 0.5}


def tiny_tokenizer(markers: Sequence[str] = MARKERS) -> Tokenizer:
    """A WordPiece tokenizer: every one of `WORDS` is one token, any other ASCII text is spelled out by characters."""
    pieces = [*SPECIAL, *WORDS, *_LETTERS, *(f"##{letter}" for letter in _LETTERS)]
    vocab = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(WordPiece(vocab, unk_token="[UNK]", max_input_chars_per_word=1000))
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(name, vocab[name]) for name in ("[CLS]", "[SEP]")]
    )
    tokenizer.add_special_tokens([*SPECIAL, *markers])
    return tokenizer


def words(count: int, *, first: int = 0) -> str:
    """A text of `count` tokens."""
    return " ".join(WORDS[number % len(WORDS)] for number in range(first, first + count))


def byte_level_tokenizer() -> Tokenizer:
    """As ModernBERT's: bytes, no prefix space."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    alphabet = ByteLevel.alphabet()
    trainer = BpeTrainer(vocab_size=300, special_tokens=[*SPECIAL], initial_alphabet=alphabet, show_progress=False)
    return _framed(tokenizer, trainer)


def metaspace_tokenizer() -> Tokenizer:
    """As DeBERTa-v3's: spaces are part of the pieces, and the first piece of a sequence gets one."""
    tokenizer = Tokenizer(Unigram())
    tokenizer.pre_tokenizer = Metaspace(prepend_scheme="first")
    trainer = UnigramTrainer(
        vocab_size=200,
        special_tokens=[*SPECIAL],
        unk_token="[UNK]",
        initial_alphabet=list(_LETTERS),
        show_progress=False,
    )
    return _framed(tokenizer, trainer)


def _framed(tokenizer: Tokenizer, trainer: Trainer) -> Tokenizer:
    tokenizer.train_from_iterator([" ".join(WORDS), *WORDS], trainer)
    special = [(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=special)
    tokenizer.add_special_tokens([*SPECIAL, *MARKERS])
    return tokenizer


def encoder_values(backbone: str) -> dict[str, Any]:
    """The `encoder_config` of a tiny backbone that fits the tiny tokenizer."""
    return {**BACKBONES[backbone], "vocab_size": tiny_tokenizer().get_vocab_size(), "pad_token_id": 0}


def tiny_config(backbone: str, **changes: Any) -> ModelConfig:
    """A config that fits the tiny tokenizer; `changes` go over `HEADS`."""
    encoder = encoder_values(backbone)
    return ModelConfig.from_dict(
        {
            "encoder_config": encoder,
            "vocab_size": encoder["vocab_size"],
            "hidden_size": 24,
            **{
                key: tiny_tokenizer().token_to_id(marker)
                for key, marker in zip(
                    ("class_token_index", "text_token_index", "example_token_index"), MARKERS, strict=True
                )
            },
            "normalize_features": True,
            **HEADS[backbone],
            **changes,
        }
    )


def fill_at_random(module: nn.Module, *, seed: int = 7) -> nn.Module:
    """Give every parameter a seeded random value, large enough for attention to be sharp."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim <= 1:
                parameter.copy_(0.3 * noise + (1.0 if name.endswith("weight") else 0.0))
            elif "embeddings" in name:
                parameter.copy_(noise)
            else:
                parameter.copy_(2.0 * noise / math.sqrt(parameter.shape[-1]))
    return module


def tiny_checkpoint(backbone: str, **changes: Any) -> Checkpoint:
    """A random checkpoint in memory."""
    config = tiny_config(backbone, **changes)
    model = build_model(config)
    fill_at_random(model)
    model.logit_scale.data.fill_(_LOGIT_SCALES[backbone])
    layout = PromptLayout(TextTokenizer(tiny_tokenizer()), prompt_first=config.prompt_first)
    return Checkpoint(name=f"tiny-{backbone}", config=config, model=model, layout=layout)


def tiny_bi_encoder(architecture: str = "bi-encoder") -> Checkpoint:
    """A random bi-encoder in memory, its labels with a vocabulary of their own."""
    words = Tokenizer(WordLevel({"[UNK]": 0, "[PAD]": 1, "seat": 2, "oil": 3, "chain": 4}, unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()
    checkpoint = tiny_checkpoint(
        "bert",
        architecture_type=architecture,
        label_model_config={"model_type": "bert", "hidden_size": 16, "num_hidden_layers": 2, "vocab_size": 5}
        | {"num_attention_heads": 2, "intermediate_size": 19, "pad_token_id": 1},
        attention_plan="joint",
    )
    return dataclasses.replace(checkpoint, label_tokenizer=TextTokenizer(words))


def write_tiny_checkpoint(folder: Path, backbone: str, **changes: Any) -> Path:
    """A random checkpoint as a folder."""
    save_checkpoint(tiny_checkpoint(backbone, **changes), folder)
    return folder


def change_config(folder, **changes):
    """Overwrite keys of a written checkpoint's config."""
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def change_weights(folder, change):
    """Let `change` edit a written checkpoint's tensors in place."""
    path = folder / "model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path)
