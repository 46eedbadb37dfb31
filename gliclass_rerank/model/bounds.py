"""Bounds of settings that come from a file: types and ranges, checked before anything is built from them.

`true` is no number here and `3.0` no whole number; NaN and infinities are never within bounds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from gliclass_rerank.errors import ConfigError, listed, shown


class Bound(Protocol):
    """What a setting may be."""

    @property
    def wanted(self) -> str:
        """The end of "must be ..."."""

    def allows(self, value: Any) -> bool:  # Any: JSON
        """Whether a value is within bounds."""


@dataclass(frozen=True)
class Whole:
    """A whole number.

    Attributes:
        least: Smallest one, included.
        most: Largest one, included.
        or_null: Whether null will do too.
    """

    least: int
    most: int
    or_null: bool = False

    @property
    def wanted(self) -> str:
        """See `Bound`."""
        return f"a whole number from {self.least} to {self.most}" + (" or null" if self.or_null else "")

    def allows(self, value: Any) -> bool:
        """See `Bound`."""
        return (self.or_null and value is None) or (type(value) is int and self.least <= value <= self.most)


@dataclass(frozen=True)
class Number:
    """A finite number.

    Attributes:
        least: Smallest one, included.
        most: Largest one, included.
    """

    least: float
    most: float

    @property
    def wanted(self) -> str:
        """See `Bound`."""
        return f"a number from {self.least:g} to {self.most:g}"

    def allows(self, value: Any) -> bool:
        """See `Bound`."""
        return type(value) in {int, float} and self.least <= value <= self.most and math.isfinite(value)


@dataclass(frozen=True)
class Flag:
    """True or false.

    Attributes:
        only: The one that can be had; None for both.
    """

    only: bool | None = None

    @property
    def wanted(self) -> str:
        """See `Bound`."""
        return "true or false" if self.only is None else str(self.only).lower()

    def allows(self, value: Any) -> bool:
        """See `Bound`."""
        return isinstance(value, bool) and self.only in {None, value}


@dataclass(frozen=True)
class Name:
    """A short string.

    Attributes:
        longest: Most characters.
        or_null: Whether null will do too.
    """

    longest: int = 200
    or_null: bool = False

    @property
    def wanted(self) -> str:
        """See `Bound`."""
        return f"a string of at most {self.longest} characters" + (" or null" if self.or_null else "")

    def allows(self, value: Any) -> bool:
        """See `Bound`."""
        return (self.or_null and value is None) or (isinstance(value, str) and 0 < len(value) <= self.longest)


@dataclass(frozen=True)
class ListOf:
    """A list of strings, each one of a few; null is the same as absent.

    Attributes:
        choices: What may be listed.
        joined_by: Between them in a string that stands for the list; empty for none.
        longest: Most of them.
    """

    choices: tuple[str, ...]
    joined_by: str = ""
    longest: int = 1024

    @property
    def wanted(self) -> str:
        """See `Bound`."""
        return f"a list of {listed(self.choices)}"

    def allows(self, value: Any) -> bool:
        """See `Bound`."""
        if isinstance(value, str) and self.joined_by and len(value) < self.longest:
            value = [part.strip() for part in value.lower().split(self.joined_by)]
        if value is None:
            return True
        return isinstance(value, list) and len(value) <= self.longest and all(part in self.choices for part in value)


@dataclass(frozen=True)
class ObjectOf:
    """An object of objects, such as settings by kind of layer; null is the same as absent.

    Attributes:
        outer: Names that it may have.
        inner: Bounds of what stands under each, by name.
    """

    outer: tuple[str, ...]
    inner: Mapping[str, Bound]

    @property
    def wanted(self) -> str:
        """See `Bound`."""
        return f"an object of {listed(self.outer)} with {listed(self.inner)} in range"

    def allows(self, value: Any) -> bool:
        """See `Bound`."""
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
    """One of a few strings.

    Attributes:
        choices: The strings.
    """

    choices: Sequence[str]

    @property
    def wanted(self) -> str:
        """See `Bound`."""
        return f"one of {listed(self.choices)}"

    def allows(self, value: Any) -> bool:
        """See `Bound`."""
        return isinstance(value, str) and value in self.choices


def check(values: Mapping[str, Any], bounds: Mapping[str, Bound], *, where: str = "") -> None:  # Any: JSON
    """Check settings.

    Args:
        values: The settings; those without a bound are not looked at.
        bounds: Bounds by name.
        where: What the settings are of, for the message.

    Raises:
        ConfigError: A value is out of bounds.
    """
    for key in values.keys() & bounds.keys():
        if not bounds[key].allows(values[key]):
            raise ConfigError(f"`{where}{key}` must be {bounds[key].wanted}, got {shown(values[key])}")
