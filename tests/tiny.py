"""Tiny tokenizers and backbones of every family, and wide random weights; all made in code, nothing is downloaded.

Weights are drawn wide, so that a wrong mask, position or option moves a logit far beyond any tolerance. What comes out
of such a model means nothing; tests compare numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import nn
from transformers import PreTrainedTokenizerFast

from gliclass_rerank.prompt.pieces import EXAMPLE, LABEL, SEP

CORPUS = (
    "The chain slips when I pedal hard, and the brakes squeal in the rain.",
    "Oil it! Its saddle is too low:\nraise it by 2 cm until the leg is almost straight.",
    "A tyre was punctured. Patch the inner tube, then pump it up; check twice.",
    "Labels: question, complaint, praise, repair, noise, comfort, safety, other, one two three four five",
    "Classify the text by topic. naïve café Größe 日本語  two  spaces",
)
TEXT = "When I pedal hard uphill the chain slips, and in the rain the brakes squeal. Is it safe? Oil did not help."
LABELS = ("noise", "a complaint about brakes", "praise", "repair", "comfort of the saddle", "safety", "other")

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


def _word_level() -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator(CORPUS, trainers.WordLevelTrainer(special_tokens=list(_SPECIAL)))
    return tokenizer


def _word_piece() -> Tokenizer:
    # Not trained, because training breaks ties in a different order each time.
    normalizer, splitter = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    words = [word for text in CORPUS for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))]
    starts = {piece for word in words for piece in (*word, word[:3])}
    rests = {f"##{piece}" for word in words for piece in (*word, word[3:6], word[6:]) if piece}
    vocab = {piece: index for index, piece in enumerate([*_SPECIAL, *sorted(starts), *sorted(rests)])}
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
    return tokenizer


def _byte_level(*, prefix_space: bool) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    trainer = trainers.BpeTrainer(
        vocab_size=350,
        special_tokens=list(_SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    # As in ModernBERT's tokenizer: runs of spaces are plain added tokens.
    tokenizer.add_tokens([AddedToken(" " * count, normalized=True) for count in (2, 3, 4)])
    return tokenizer


def _metaspace(scheme: str, *, trims: bool) -> Tokenizer:
    # Not trained, because training draws the pieces in a different order each time.
    words = [f"▁{word}" for word in " ".join(CORPUS).split()]
    pieces = {piece for word in words for piece in (*word, word[:3], word[3:6], word[6:])} - {""}
    vocab = [*((token, 0.0) for token in _SPECIAL), *((piece, -9 / len(piece)) for piece in sorted(pieces))]
    tokenizer = Tokenizer(models.Unigram(vocab, unk_id=1))
    if trims:  # as in DeBERTa-v3's tokenizer
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Strip(), normalizers.Replace(Regex(r" {2,}|[\n\r\t]"), " "), normalizers.NFC()]
        )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    return tokenizer


TOKENIZERS: Mapping[str, Callable[[], Tokenizer]] = {
    "word_level": _word_level,
    "word_piece": _word_piece,
    "byte_level": lambda: _byte_level(prefix_space=False),
    "byte_level_prefix_space": lambda: _byte_level(prefix_space=True),
    "metaspace_always": lambda: _metaspace("always", trims=False),
    "metaspace_first": lambda: _metaspace("first", trims=False),
    "metaspace_never": lambda: _metaspace("never", trims=False),
    "metaspace_always_trimmed": lambda: _metaspace("always", trims=True),
    "metaspace_first_trimmed": lambda: _metaspace("first", trims=True),
}


def tiny_tokenizer(
    kind: str = "word_level", *, markers: tuple[str, ...] = (LABEL, SEP, EXAMPLE), special: bool = True
) -> PreTrainedTokenizerFast:
    """A tokenizer of one of `TOKENIZERS`, `[CLS]` and `[SEP]` around each sequence, markers added last."""
    backend = TOKENIZERS[kind]()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(token, backend.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )
    tokenizer.add_tokens(list(markers), special_tokens=special)
    return tokenizer


_SIZES = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48, "max_position_embeddings": 512}
_T5_SIZES = {
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 2,
    "num_heads": 4,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 24,
}
BACKBONES: Mapping[str, Mapping[str, Any]] = {
    "bert": {"model_type": "bert", "num_hidden_layers": 2},
    "deberta": {
        "model_type": "deberta-v2",
        "num_hidden_layers": 2,
        "relative_attention": True,
        "position_buckets": 8,
        "max_relative_positions": -1,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "pos_att_type": "p2c|c2p",
        "position_biased_input": False,
        "type_vocab_size": 0,
    },
    "deberta-v2": {  # the options that v3 gave up
        "model_type": "deberta-v2",
        "num_hidden_layers": 2,
        "relative_attention": True,
        "position_buckets": -1,
        "max_relative_positions": 16,
        "pos_att_type": ["c2p"],
        "share_att_key": False,
        "conv_kernel_size": 3,
        "position_biased_input": True,
        "type_vocab_size": 2,
    },
    "modernbert": {  # the window of the local layers is shorter than any text
        "model_type": "modernbert",
        "num_hidden_layers": 3,
        "global_attn_every_n_layers": 3,
        "local_attention": 6,
        "cls_token_id": 2,
        "sep_token_id": 3,
        "bos_token_id": 2,
        "eos_token_id": 3,
    },
    "t5": {"model_type": "t5", **_T5_SIZES},
    "umt5": {"model_type": "umt5", **_T5_SIZES},
    "mt5": {"model_type": "mt5", **_T5_SIZES},
    "electra": {"model_type": "electra", "num_hidden_layers": 2, "embedding_size": 24},
    "roberta": {"model_type": "roberta", "num_hidden_layers": 2},
    "distilbert": {"model_type": "distilbert", "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48},
}


def encoder_config(backbone: str, tokenizer: PreTrainedTokenizerFast, **changes: Any) -> dict[str, Any]:
    """The `encoder_config` of a tiny checkpoint; `changes` override single keys."""
    base = BACKBONES[backbone]
    sizes = {} if "d_model" in base or "dim" in base else _SIZES
    return {**sizes, **base, "vocab_size": len(tokenizer), "pad_token_id": 0, **changes}


def enlarge(module: nn.Module, seed: int = 0, *, scale: float = 0.3) -> None:
    """Draw all weights anew, wide: matrices with `scale`, embeddings with 1, norms around 1, biases with 0.2.

    Equal seeds give equal weights to equal modules whatever stands beside them.
    """
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            generator = torch.Generator().manual_seed(seed * 7919 + sum(map(ord, name)) % 7907)
            drawn = torch.randn(parameter.shape, generator=generator)
            kind = name.lower()
            if parameter.dim() == 0:  # logit_scale
                parameter.fill_(1.7)
            elif parameter.dim() == 1 and "norm" in kind and not kind.endswith("bias"):
                parameter.copy_(1 + 0.3 * drawn)
            elif parameter.dim() == 1:
                parameter.copy_(0.2 * drawn)
            elif "embed" in kind or "shared" in kind or "relative_attention_bias" in kind:
                parameter.copy_(drawn)
            else:  # a saturated calibrator would hide everything else
                parameter.copy_((0.1 if "calibrator" in kind else scale) * drawn)
