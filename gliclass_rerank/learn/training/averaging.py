"""Averaging and interpolation of checkpoints' weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch

from gliclass_rerank.checkpoint.loading import Checkpoint, load_checkpoint, save_checkpoint
from gliclass_rerank.errors import CheckpointError, ConfigError


def average(
    folders: Sequence[Path | str],
    target: Path | str,
    *,
    weights: Sequence[float] | None = None,
    weights_dtype: torch.dtype | None = None,
) -> None:
    """Write the weighted mean of checkpoints (Wortsman et al., arXiv 2203.05482).

    Args:
        folders: Checkpoints with the same config and tokenizer, at least one.
        target: New folder.
        weights: Weights with a sum above 0; None for equal ones.
        weights_dtype: Precision of the file; None for float32.

    Raises:
        ConfigError: No folder, or weights that do not match.
        CheckpointError: A checkpoint cannot be loaded or differs from the first, or the target exists.
    """
    if not folders:
        raise ConfigError("an average needs at least one checkpoint, got none")
    shares = _shares(weights, len(folders))
    if Path(target).exists():  # before anything is loaded
        raise CheckpointError(f"`{target}` exists already; checkpoints are never overwritten")
    result = load_checkpoint(folders[0])
    sums = {name: shares[0] * tensor.double() for name, tensor in result.model.state_dict().items()}
    for folder, share in zip(folders[1:], shares[1:], strict=True):
        other = load_checkpoint(folder)
        _check_alike(result, other)
        for name, tensor in other.model.state_dict().items():
            sums[name] += share * tensor.double()
    with torch.no_grad():
        for name, tensor in result.model.state_dict().items():
            tensor.copy_(sums[name])  # integer buffers, equal in all checkpoints
    save_checkpoint(result, target, weights_dtype=weights_dtype)


def interpolate(
    first: Path | str,
    second: Path | str,
    target: Path | str,
    *,
    share: float,
    weights_dtype: torch.dtype | None = None,
) -> None:
    """Write an interpolation of two checkpoints.

    Args:
        first: Checkpoint, such as the trained one.
        second: Checkpoint, such as the one it started from.
        target: New folder.
        share: Weight of the first, in [0, 1].
        weights_dtype: Precision of the file; None for float32.

    Raises:
        ConfigError: A share outside [0, 1].
        CheckpointError: A checkpoint cannot be loaded, they differ in config, or the target exists.
    """
    if not 0 <= share <= 1:
        raise ConfigError(f"`share` must be between 0 and 1, got {share}")
    average([first, second], target, weights=[share, 1 - share], weights_dtype=weights_dtype)


def _shares(weights: Sequence[float] | None, count: int) -> list[float]:
    if weights is None:
        return [1 / count] * count
    if len(weights) != count:
        raise ConfigError(f"`weights` must hold one number for each of the {count} checkpoints, got {len(weights)}")
    total = math.fsum(weights)
    if not total > 0 or not math.isfinite(total):
        raise ConfigError(f"`weights` must have a sum above 0, got {[*weights]}")
    return [weight / total for weight in weights]


def _check_alike(first: Checkpoint, other: Checkpoint) -> None:
    # The config includes plan and query start: weights of another plan are incompatible. As saved, because a backbone's
    # config may hold notes of whoever made it.
    if first.config.to_dict() != other.config.to_dict():
        raise CheckpointError(f"`{first.name}` and `{other.name}` have different configs, so their mean is no model")
    if first.layout.tokenizer.source != other.layout.tokenizer.source:
        raise CheckpointError(f"`{first.name}` and `{other.name}` have different tokenizers, so their mean is no model")
