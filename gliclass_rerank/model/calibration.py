"""Calibrations in a checkpoint's config: numbers that turn logits into probabilities, checked when they are read."""

from __future__ import annotations

from typing import Final

from gliclass_rerank.errors import ConfigError, shown
from gliclass_rerank.model.bounds import Number

_LOGITS: Final = Number(-1e9, 1e9)


def checked_line(name: str, value: object) -> tuple[float, float] | None:
    """Validate slope and intercept of a calibration.

    Args:
        name: Key in the config, for the message.
        value: Value in the config; None stays.

    Returns:
        Slope (above 0) and intercept.

    Raises:
        ConfigError: Anything else.
    """
    if value is None:
        return None
    numbers = _numbers(value)
    if len(numbers) != 2 or numbers[0] <= 0:
        raise ConfigError(f"`{name}` must be a slope above 0 and an intercept, got {shown(value)}")
    return numbers[0], numbers[1]


def checked_label_calibration(value: object) -> tuple[float, float, float] | None:
    """Validate the calibration of labels.

    Args:
        value: Value in the config; None stays.

    Returns:
        Slope (above 0) and intercept of a label's margin over the best other label, and the logit that stands in for an
        absent one.

    Raises:
        ConfigError: Anything else.
    """
    if value is None:
        return None
    numbers = _numbers(value)
    if len(numbers) != 3 or numbers[0] <= 0:
        raise ConfigError(f"`label_calibration` must be a slope above 0, an intercept and a logit, got {shown(value)}")
    return numbers[0], numbers[1], numbers[2]


def _numbers(value: object) -> tuple[float, ...]:
    """A list's numbers; empty for anything else."""
    numbers = value if isinstance(value, (list, tuple)) else ()
    return tuple(map(float, numbers)) if all(map(_LOGITS.allows, numbers)) else ()
