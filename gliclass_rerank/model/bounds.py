"""Bounds of settings read from a file: types and ranges, checked before anything is built.

`true` is not a number and `3.0` not an integer; NaN and infinities are never within bounds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from gliclass_rerank.errors import ConfigError, listed, shown


class Bound(Protocol):
    """Bound of a setting."""

    @property
    def wanted(self) -> str:
        """Text after "must be"."""

    def allows(self, value: Any) -> bool:  # Any: JSON
        """Test a value."""


@dataclass(frozen=True)
class Whole:
    """Integer bound.

    Attributes:
        least: Minimum.
        most: Maximum.
        or_null: Allow null.
    """

    least: int
    most: int
    or_null: bool = False

    @property
    def wanted(self) -> str:
        """Text after "must be"."""
        return f"a whole number from {self.least} to {self.most}" + (" or null" if self.or_null else "")

    def allows(self, value: Any) -> bool:
        """Test a value."""
        return (self.or_null and value is None) or (type(value) is int and self.least <= value <= self.most)


@dataclass(frozen=True)
class Number:
    """Bound of a finite number.

    Attributes:
        least: Minimum.
        most: Maximum.
    """

    least: float
    most: float

    @property
    def wanted(self) -> str:
        """Text after "must be"."""
        return f"a number from {self.least:g} to {self.most:g}"

    def allows(self, value: Any) -> bool:
        """Test a value."""
        return type(value) in {int, float} and self.least <= value <= self.most and math.isfinite(value)


@dataclass(frozen=True)
class Flag:
    """Boolean bound.

    Attributes:
        only: Supported value; None for both.
    """

    only: bool | None = None

    @property
    def wanted(self) -> str:
        """Text after "must be"."""
        return "true or false" if self.only is None else str(self.only).lower()

    def allows(self, value: Any) -> bool:
        """Test a value."""
        return isinstance(value, bool) and self.only in {None, value}


@dataclass(frozen=True)
class Name:
    """Bound of a short string.

    Attributes:
        longest: Maximum number of characters.
        or_null: Allow null.
    """

    longest: int = 200
    or_null: bool = False

    @property
    def wanted(self) -> str:
        """Text after "must be"."""
        return f"a string of at most {self.longest} characters" + (" or null" if self.or_null else "")

    def allows(self, value: Any) -> bool:
        """Test a value."""
        return (self.or_null and value is None) or (isinstance(value, str) and 0 < len(value) <= self.longest)


@dataclass(frozen=True)
class ListOf:
    """Bound of a list of strings from a choice; null means absent.

    Attributes:
        choices: Allowed strings.
        joined_by: Delimiter of a string that stands for the list; empty for none.
        longest: Maximum number of items.
    """

    choices: tuple[str, ...]
    joined_by: str = ""
    longest: int = 1024

    @property
    def wanted(self) -> str:
        """Text after "must be"."""
        return f"a list of {listed(self.choices)}"

    def allows(self, value: Any) -> bool:
        """Test a value."""
        if isinstance(value, str) and self.joined_by and len(value) < self.longest:
            value = [part.strip() for part in value.lower().split(self.joined_by)]
        if value is None:
            return True
        return isinstance(value, list) and len(value) <= self.longest and all(part in self.choices for part in value)


@dataclass(frozen=True)
class ObjectOf:
    """Bound of an object of objects, such as settings by layer kind; null means absent.

    Attributes:
        outer: Allowed keys.
        inner: Bounds of the inner values, by name.
    """

    outer: tuple[str, ...]
    inner: Mapping[str, Bound]

    @property
    def wanted(self) -> str:
        """Text after "must be"."""
        return f"an object of {listed(self.outer)} with {listed(self.inner)} in range"

    def allows(self, value: Any) -> bool:
        """Test a value."""
        if value is None:
            return True
        return (
            isinstance(value, dict)
            and all(name in self.outer and isinstance(part, dict) for name, part in value.items())
            and all(
                key in self.inner and self.inner[key].allows(one)
                for part in value.values()
                for key, one in part.items()
            )
        )


@dataclass(frozen=True)
class OneOf:
    """Bound of a string from a choice.

    Attributes:
        choices: Allowed strings.
    """

    choices: Sequence[str]

    @property
    def wanted(self) -> str:
        """Text after "must be"."""
        return f"one of {listed(self.choices)}"

    def allows(self, value: Any) -> bool:
        """Test a value."""
        return isinstance(value, str) and value in self.choices


def check(values: Mapping[str, Any], bounds: Mapping[str, Bound], *, where: str = "") -> None:  # Any: JSON
    """Check settings against bounds.

    Args:
        values: Settings; those without a bound are ignored.
        bounds: Bounds by name.
        where: Owner of the settings, for the message.

    Raises:
        ConfigError: A value is out of bounds.
    """
    for key in values.keys() & bounds.keys():
        if not bounds[key].allows(values[key]):
            raise ConfigError(f"`{where}{key}` must be {bounds[key].wanted}, got {shown(values[key])}")
