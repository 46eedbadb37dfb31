"""Attention plan of a loaded checkpoint."""

from __future__ import annotations

from gliclass_rerank.checkpoint.loading import Checkpoint
from gliclass_rerank.errors import ConfigError
from gliclass_rerank.model.backbones.registry import unsupported_reason
from gliclass_rerank.model.config import AttentionPlan


def resolve_plan(checkpoint: Checkpoint, plan: AttentionPlan | None) -> AttentionPlan | None:
    """Resolve the attention plan.

    Args:
        checkpoint: Loaded checkpoint.
        plan: Requested plan; None for the checkpoint's own.

    Returns:
        The plan; None for bi-encoders.

    Raises:
        ConfigError: The checkpoint cannot run it.
    """
    config = checkpoint.config
    if config.is_bi_encoder:
        if plan is not None:
            raise ConfigError(f"the architecture {config.architecture_type!r} has no attention plan, got {plan!r}")
        return None
    resolved = plan or config.attention_plan
    if resolved != "shared_query" and config.token_interaction:
        raise ConfigError(f"this checkpoint compares tokens, which needs the plan 'shared_query', got {plan!r}")
    if resolved != "shared_query" and config.candidate_position_start:
        raise ConfigError(
            f"this checkpoint's candidates begin at position {config.candidate_position_start}, which only the plan "
            f"'shared_query' can do, got {plan!r}"
        )
    reason = unsupported_reason(config.encoder_config) if resolved == "shared_query" else None
    if reason is not None:
        raise ConfigError(reason)
    return resolved
