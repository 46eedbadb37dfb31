"""Checks of call arguments, made once at the public edge; each failure is one sentence with the value.

What a caller passes is other people's code: an object may raise from its iterator, its length, its comparison or its
repr. Here, and nowhere behind, that becomes an `InputError`. What is returned is plain: of a subclass of `str`, the
text.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Final, TypeVar

from gliclass_rerank.errors import ConfigError, GLiClassRerankError, InputError, cause, listed, shown

_Choice = TypeVar("_Choice", bound="str | None")

# Of JSON: far more than anybody writes, and far from what exhausts Python's stack.
MAX_NESTING: Final = 100
# A message that names a file is of use with the whole path.
_LONGEST_PATH: Final = 240


@contextmanager
def of_settings() -> Iterator[None]:
    """Checks of constructor arguments and config files: what they refuse is a `ConfigError`, in the same words."""
    try:
        yield
    except InputError as error:
        raise ConfigError(str(error)) from None


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Look at an object of the caller's: what it raises is an `InputError`.

    Args:
        name: The argument, for the message.

    Raises:
        InputError: It raised something.
    """
    try:
        yield
    except GLiClassRerankError:
        raise
    except Exception as error:
        raise InputError(f"{name} cannot be read: {type(error).__name__}: {cause(error)}") from error


def is_a(value: object, kind: type | tuple[type, ...]) -> bool:
    """`isinstance`, by the type alone: an object may lie about its class."""
    return issubclass(type(value), kind)


def checked_text(name: str, value: object) -> str:
    """A string argument; anything else, such as a NaN from a data frame, is refused by name."""
    if not issubclass(type(value), str):
        raise InputError(f"{name} must be a string, got {shown(value)}")
    text: str = str.__str__(value)  # its own characters, whatever a subclass says
    try:
        text.encode()
    except UnicodeEncodeError as error:
        # Half of a surrogate pair, from badly decoded JSON or file names: no tokenizer takes it.
        raise InputError(f"{name} must be valid Unicode, got {shown(text[error.start])} at {error.start}") from None
    return text


def checked_texts(name: str, values: object) -> tuple[str, ...]:
    """A list of strings; a lone string is refused, because it is a sequence of strings too, and so is a set."""
    if type(values) in (list, tuple) and all(type(value) is str for value in values):  # type: ignore[attr-defined]
        with suppress(UnicodeEncodeError):  # which one it is, is found out below
            "".join(values).encode()  # type: ignore[arg-type]
            return tuple(values)  # type: ignore[arg-type]
    if is_a(values, (str, bytes, bytearray, memoryview, Mapping, Set)) or not hasattr(type(values), "__iter__"):
        raise InputError(f"`{name}` must be a list of strings, got {shown(values)}")
    return tuple(checked_text(f"`{name}[{index}]`", value) for index, value in enumerate(_items(name, values)))


def checked_list(name: str, values: object, of: str) -> list[Any]:  # Any: checked by the caller
    """A list or another sequence, as a list of its own; no string, which is one too.

    Args:
        name: The argument, for the message.
        values: What was passed.
        of: What it should hold, for the message.

    Returns:
        Its items.

    Raises:
        InputError: It is none, or cannot be read.
    """
    is_list = is_a(values, Sequence) or hasattr(type(values), "__array__")  # numpy's and pandas' are no sequences
    if is_a(values, (str, bytes, bytearray, memoryview, Mapping)) or not is_list:
        raise InputError(f"`{name}` must be a list of {of}, got {shown(values)}")
    return _items(name, values)


def _items(name: str, values: object) -> list[object]:
    with reading(f"`{name}`"):
        return list(values)  # type: ignore[call-overload, no-any-return] # what is not iterable is refused


def checked_count(name: str, value: object) -> int:
    """A whole number of at least 1, of any integer type but bool."""
    try:
        count = 0 if is_a(value, bool) else operator.index(value)  # type: ignore[arg-type] # refused below
    except Exception:  # noqa: BLE001 - of the caller's object
        count = 0
    if count < 1:
        raise InputError(f"`{name}` must be a whole number of at least 1, got {shown(value)}")
    return count


def checked_flag(name: str, value: object) -> bool:
    """A truth value, of any type that has one."""
    with reading(f"`{name}`"):
        return bool(value)


def checked_choice(name: str, value: object, choices: Sequence[_Choice]) -> _Choice:
    """One of some names, or None if that is among them."""
    text = str.__str__(value) if is_a(value, str) else value
    for choice in choices:
        if text is choice or (type(text) is str and text == choice):
            return choice
    raise InputError(f"`{name}` must be one of {listed(map(str, choices))}, got {shown(value)}")


def checked_path(name: str, value: object) -> Path:
    """The path of a file, `~` filled in."""
    if not is_a(value, (str, os.PathLike)):
        raise InputError(f"`{name}` must be a path, got {shown(value)}")
    with reading(f"`{name}`"):
        return Path(value).expanduser()  # type: ignore[arg-type] # as above


def nesting(value: object) -> int:
    """How deep lists and dicts of JSON are nested; 0 for a plain value. Looks no deeper than beyond `MAX_NESTING`."""
    depth, level = 0, [value]
    while level := [item for item in level if isinstance(item, (list, dict))]:
        depth += 1
        if depth > MAX_NESTING:
            break
        level = [part for item in level for part in (item.values() if isinstance(item, dict) else item)]
    return depth


def named(path: object) -> str:
    """A path or a name for a message, on one line; one that no user would call a path is cut."""
    text = str(path)
    return text if len(text) <= _LONGEST_PATH and text.isprintable() else listed([text])[1:-1]


def as_number(value: object) -> float | None:
    """A number as a Python float, numpy's included; None for anything else, truth values and digits too."""
    if type(value) is float:
        return value
    try:
        # The second: numpy's truth values, by the name of either of its versions.
        if is_a(value, (bool, str, bytes, bytearray)) or type(value).__name__ in ("bool", "bool_"):
            return None
        if getattr(value, "ndim", 0):
            return None
        return float(value)  # type: ignore[arg-type] # refused below
    except Exception:  # noqa: BLE001 - of the caller's object
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
    return {name: _json_value(name, value) for name, value in values.items() if value is not None}


def _json_value(name: str, value: Any) -> Any:  # JSON
    with of_settings(), reading(f"`{name}`"):
        if isinstance(value, bool):
            return value
        if isinstance(value, Integral):  # numpy's too
            return int(value)
        return float(value) if isinstance(value, Real) else str(value).removeprefix("torch.")
