"""Start checkpoint of a training run."""

from __future__ import annotations

from dataclasses import replace

import torch

from gliclass_rerank.checkpoint.loading import Checkpoint, load_checkpoint
from gliclass_rerank.errors import ConfigError
from gliclass_rerank.learn.training.config import StartConfig


def load_start(start: StartConfig) -> Checkpoint:
    """Load the start checkpoint and apply the config's changes.

    Args:
        start: Start config.

    Returns:
        The checkpoint with an updated config.

    Raises:
        CheckpointError: It cannot be loaded.
        ConfigError: A change does not apply to it.
    """
    checkpoint = load_checkpoint(start.model, revision=start.revision)
    changes = {
        key: value for key in ("attention_plan", "query_attention_start") if (value := getattr(start, key)) is not None
    }
    if changes and checkpoint.config.is_bi_encoder:
        raise ConfigError(f"a bi-encoder has no attention plan, so `{min(changes)}` does not apply")
    config = replace(checkpoint.config, **changes)
    checkpoint.model.config = config
    if start.logit_scale is not None:
        if not (config.normalize_features or config.is_bi_encoder):
            raise ConfigError("`logit_scale` needs a start model with `normalize_features`; this one never reads it")
        torch.nn.init.constant_(checkpoint.model.logit_scale, start.logit_scale)
    return replace(checkpoint, config=config)
