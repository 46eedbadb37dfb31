"""A tiny random model of the public `gliclass` package, saved by it, and what this library makes of the folder.

Both sides run through their public code: upstream's pipeline prepares the inputs of its model, ours is a
`ZeroShotClassifier`. One text at a time, so that nothing is padded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from gliclass import GLiClassModel, GLiClassModelConfig, ZeroShotClassificationPipeline
from gliclass.pipeline import flatten_hierarchical_labels
from gliclass.utils import retrieval_augmented_text
from tiny import LABELS, TEXT, encoder_config, enlarge, tiny_tokenizer
from transformers import PreTrainedTokenizerFast

from gliclass_rerank import ZeroShotClassifier
from gliclass_rerank.prompt.pieces import EXAMPLE, LABEL, SEP

# Float32 on both sides, the same backbone code, another order of operations in the head.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Upstream:
    """The reference: a model in memory and the tokenizer it was saved with."""

    model: GLiClassModel
    tokenizer: PreTrainedTokenizerFast
    max_length: int = 1024

    def inputs(
        self,
        text: str,
        labels: Sequence[str] | Mapping[str, Any],
        *,
        prompt: str | None = None,
        examples: Sequence[Mapping[str, Any]] | None = None,
        example_format: str | None = None,
    ) -> Mapping[str, torch.Tensor]:
        """What upstream's pipeline feeds its model."""
        pipeline = ZeroShotClassificationPipeline(
            self.model, self.tokenizer, max_length=self.max_length, device="cpu", progress_bar=False
        )
        if examples and example_format == "rac":
            text, examples = retrieval_augmented_text(text, list(examples)), None
        flat = flatten_hierarchical_labels(labels) if isinstance(labels, Mapping) else list(labels)
        return pipeline.pipe.prepare_inputs([text], flat, same_labels=True, examples=examples, prompt=prompt)

    @torch.no_grad()
    def logits(self, text: str, labels: Sequence[str] | Mapping[str, Any], **settings: object) -> list[float]:
        """Raw logits of one text."""
        flat = flatten_hierarchical_labels(labels) if isinstance(labels, Mapping) else list(labels)
        output = self.model(**self.inputs(text, labels, **settings), max_num_classes=len(flat))
        return output.logits[0].tolist()


@dataclass(frozen=True)
class Pair:
    """Both sides of a comparison, on one folder."""

    upstream: Upstream
    folder: Path

    def classifier(self, **settings: object) -> ZeroShotClassifier:
        """This library's side; on the CPU, as upstream's."""
        return ZeroShotClassifier(self.folder, device="cpu", **settings)

    def check(self, text: str = TEXT, labels: Sequence[str] | Mapping[str, Any] = LABELS, **settings: object) -> None:
        """Ask both sides for the logits of one text."""
        check_same(self._ours.logits(text, labels, **settings), self.upstream.logits(text, labels, **settings))

    @cached_property
    def _ours(self) -> ZeroShotClassifier:
        return self.classifier()


def check_same(ours: Sequence[float], theirs: Sequence[float]) -> None:
    """Equal logits, and logits worth comparing: finite, and different from label to label."""
    assert len(ours) == len(theirs)
    assert all(map(math.isfinite, theirs))
    assert len(theirs) == 1 or max(theirs) - min(theirs) > 100 * TOLERANCE, (
        f"these labels cannot be told apart: {theirs}"
    )
    assert max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) <= TOLERANCE, f"{ours} instead of {theirs}"


def build_pair(
    folder: Path,
    backbone: str = "bert",
    *,
    tokenizer: PreTrainedTokenizerFast | None = None,
    encoder: Mapping[str, Any] | None = None,
    seed: int = 0,
    **options: Any,
) -> Pair:
    """Make a random upstream uni-encoder and save it the way upstream does.

    Equal seeds give equal weights to all options that bring none of their own.
    """
    tokenizer = tokenizer or tiny_tokenizer()
    small = {"scorer_num_heads": 4, "scorer_mlp_hidden_size": 24, "calibrator_hidden_size": 20}
    return _saved(
        folder,
        tokenizer,
        seed,
        encoder_config=encoder_config(backbone, tokenizer, **(encoder or {})),
        **{**small, **options},
    )


def build_biencoder(
    folder: Path,
    architecture: str,
    backbone: str = "bert",
    label_backbone: str = "modernbert",
    *,
    label_words: str = "word_piece",
    encoder: Mapping[str, Any] | None = None,
    **options: Any,
) -> Pair:
    """Make a random upstream bi-encoder.

    Upstream reads its label tokenizer from another place; here it lies in the folder, where we want it.
    """
    label_folder = folder / "label_tokenizer"
    tokenizer, label_tokenizer = tiny_tokenizer(), tiny_tokenizer(label_words, markers=())
    label_tokenizer.save_pretrained(label_folder)
    return _saved(
        folder,
        tokenizer,
        architecture_type=architecture,
        encoder_config=encoder_config(backbone, tokenizer, **(encoder or {})),
        label_model_config=encoder_config(label_backbone, label_tokenizer, hidden_size=24),
        label_model_name=str(label_folder),
        **options,
    )


def _saved(folder: Path, tokenizer: PreTrainedTokenizerFast, seed: int = 0, **options: Any) -> Pair:
    markers = zip(("class_token_index", "text_token_index", "example_token_index"), (LABEL, SEP, EXAMPLE), strict=True)
    config = GLiClassModelConfig(
        encoder_model="tiny",  # upstream looks for adapters in a folder of this name
        vocab_size=len(tokenizer),
        **{key: tokenizer.convert_tokens_to_ids(marker) for key, marker in markers},
        **options,
    )
    model = GLiClassModel(config).eval()
    enlarge(model, seed)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Pair(Upstream(model, tokenizer), folder)
