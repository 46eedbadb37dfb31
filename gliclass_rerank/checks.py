"""Checks of call arguments, made once at the public edge; each failure is one sentence with the value."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Any

from gliclass_rerank.errors import ConfigError, InputError, shown


@contextmanager
def of_settings() -> Iterator[None]:
    """Checks of constructor arguments and config files: what they refuse is a `ConfigError`, in the same words."""
    try:
        yield
    except InputError as error:
        raise ConfigError(str(error)) from None


def checked_text(name: str, value: object) -> str:
    """A string argument; anything else, such as a NaN from a data frame, is refused by name."""
    if not isinstance(value, str):
        raise InputError(f"{name} must be a string, got {shown(value)}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        # Half of a surrogate pair, from badly decoded JSON or file names: no tokenizer takes it.
        raise InputError(f"{name} must be valid Unicode, got {value[error.start]!r} at {error.start}") from None
    return value


def checked_texts(name: str, values: object) -> tuple[str, ...]:
    """A list of strings; a lone string is refused, because it is a sequence of strings too, and so is a set."""
    if isinstance(values, (str, bytes, Mapping, Set)) or not hasattr(values, "__iter__"):
        raise InputError(f"`{name}` must be a list of strings, got {values!r}")
    return tuple(checked_text(f"`{name}[{index}]`", value) for index, value in enumerate(values))


def checked_count(name: str, value: object) -> int:
    """A whole number of at least 1, of any integer type but bool."""
    try:
        count = 0 if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type] # refused below
    except TypeError:
        count = 0
    if count < 1:
        raise InputError(f"`{name}` must be a whole number of at least 1, got {shown(value)}")
    return count


def as_number(value: object) -> float | None:
    """A number as a Python float, numpy's included; None for anything else, truth values and digits too."""
    if type(value) is float:
        return value
    try:
        return None if isinstance(value, (bool, str)) else float(value)  # type: ignore[arg-type] # refused below
    except (OverflowError, TypeError, ValueError):
        return None


def checked_share(name: str, value: object) -> float:
    """A number between 0 and 1, both included."""
    return _checked_from(0, name, value)


def checked_cosine(name: str, value: object) -> float:
    """A number between -1 and 1, both included."""
    return _checked_from(-1, name, value)


def _checked_from(least: int, name: str, value: object) -> float:
    number = as_number(value)
    if number is None or not least <= number <= 1:
        raise InputError(f"`{name}` must be between {least} and 1, got {shown(value)}")
    return number


def json_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """Constructor arguments as JSON values: paths, devices and dtypes by name, what is None left out."""
    return {name: _json_value(value) for name, value in values.items() if value is not None}


def _json_value(value: Any) -> Any:  # JSON
    if isinstance(value, bool):
        return value
    if isinstance(value, Integral):  # numpy's too
        return int(value)
    return float(value) if isinstance(value, Real) else str(value).removeprefix("torch.")
