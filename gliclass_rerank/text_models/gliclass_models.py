"""GLiClass checkpoints as teachers and encoders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import torch

from gliclass_rerank.checkpoint.loading import load_checkpoint
from gliclass_rerank.errors import ConfigError
from gliclass_rerank.model.batch import TokenRows, length_groups
from gliclass_rerank.model.full_attention import run_backbone
from gliclass_rerank.pipeline import Pipeline
from gliclass_rerank.prompt.layout import ScoringRequest
from gliclass_rerank.runtime.resolve import resolve_runtime
from gliclass_rerank.settings import ModelSettings
from gliclass_rerank.text_models.interfaces import (
    Embedded,
    FloatArray,
    QueryPassages,
    Role,
    Scored,
    by_ask,
    in_text_order,
    set_torch_threads,
    unit_length,
)
from gliclass_rerank.text_models.options import ModelOptions
from gliclass_rerank.types import TokenIds


class GLiClassTeacher:
    """Teacher over a reranker's logits.

    Under the `joint` plan a score depends on the other passages, and `max_tokens` limits their shared window.

    Args:
        model: Checkpoint folder.
        options: Runtime options.

    Raises:
        CheckpointError: The checkpoint cannot be loaded.
        ConfigError: `max_tokens` exceeds its positions.
    """

    is_logit: Final = True

    def __init__(self, model: Path, options: ModelOptions) -> None:
        set_torch_threads(options.threads)
        self._options = options
        settings = ModelSettings(
            model, device=options.device, max_window_tokens=options.max_tokens, batch_tokens=options.batch_tokens
        )
        self._pipeline = Pipeline(settings)

    def score(self, asks: Sequence[QueryPassages]) -> Scored:
        """Score passages by logit."""
        options = self._options
        requests = [
            ScoringRequest(options.query_prefix + query, [options.passage_prefix + text for text in passages])
            for query, passages in asks
        ]
        results = self._pipeline.score(requests, truncate_side="candidates")
        num_tokens = sum(each.plan.num_tokens for each in results)
        return Scored(by_ask([logit for each in results for logit in each.logits], asks), num_tokens)


class GLiClassEncoder:
    """Sentence encoder over a uni-encoder's backbone: the mean of its last token states.

    For an untrained checkpoint this is the sentence encoder it was assembled from; training degrades it.

    Args:
        model: Checkpoint folder.
        options: Runtime options.

    Raises:
        CheckpointError: The checkpoint cannot be loaded.
        ConfigError: It is a bi-encoder.
    """

    def __init__(self, model: Path, options: ModelOptions) -> None:
        set_torch_threads(options.threads)
        checkpoint = load_checkpoint(model)
        if checkpoint.config.is_bi_encoder:
            raise ConfigError(f"only a uni-encoder's backbone can embed texts, `{model}` is a bi-encoder")
        self._options = options
        self._runtime = resolve_runtime(
            checkpoint.config, backend="torch", device=options.device, batch_tokens=options.batch_tokens
        )
        self._tokenizer = checkpoint.layout.tokenizer
        self._pad_id = checkpoint.config.shape.pad_id
        self._backbone = checkpoint.model.encoders[0].to(self._runtime.device, self._runtime.torch_dtype)
        self._max_tokens = min(options.max_tokens, checkpoint.config.shape.max_positions or options.max_tokens)

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], role: Role) -> Embedded:
        """Embed texts."""
        prefix = self._options.prefix(role)
        sequences = [self._cut(ids) for ids in self._tokenizer.encode_sequences([prefix + text for text in texts])]
        lengths = {row: len(ids) for row, ids in enumerate(sequences)}
        vectors: dict[int, FloatArray] = {}
        for rows in length_groups(lengths, self._runtime.batch_tokens):
            tokens = TokenRows.of([sequences[row] for row in rows], pad_id=self._pad_id, device=self._runtime.device)
            (states,) = run_backbone(self._backbone, tokens)
            weights = tokens.mask[..., None].float()
            pooled = (states.float() * weights).sum(dim=1) / weights.sum(dim=1)
            vectors.update(zip(rows, unit_length(pooled.cpu().numpy()), strict=True))
        return in_text_order(vectors, sum(lengths.values()))

    def _cut(self, ids: TokenIds) -> TokenIds:
        closing = self._tokenizer.suffix_ids
        return ids if len(ids) <= self._max_tokens else (*ids[: self._max_tokens - len(closing)], *closing)
