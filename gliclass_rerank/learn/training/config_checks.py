"""Checks of numbers in training configs."""

from __future__ import annotations

import math

from gliclass_rerank.errors import ConfigError


def check_share(name: str, value: float) -> None:
    """Check that a number is in [0, 1]; else a `ConfigError`."""
    if not 0 <= value <= 1:
        raise ConfigError(f"`{name}` must be between 0 and 1, got {value}")


def check_positive(name: str, value: float) -> None:
    """Check that a number is finite and above 0; else a `ConfigError`."""
    if not (value > 0 and math.isfinite(value)):
        raise ConfigError(f"`{name}` must be above 0, got {value}")


def check_at_least(name: str, value: float, least: int) -> None:
    """Check that a number is finite and at least `least`; else a `ConfigError`."""
    if not (value >= least and math.isfinite(value)):
        raise ConfigError(f"`{name}` must be at least {least}, got {value}")
