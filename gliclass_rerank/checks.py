"""Validation of call arguments at the public edge; a failure is an `InputError` of one sentence with the value.

A caller's object may raise from its iterator, length, comparison or repr; only this module handles that. Results are
plain: a subclass of `str` becomes its text.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from numbers import Integral, Real
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeVar

from gliclass_rerank.errors import ConfigError, GLiClassRerankError, InputError, cause, listed, shown

_Choice = TypeVar("_Choice", bound="str | None")

# Id and metadata of a document.
_About = tuple[str | int | None, Mapping[str, Any] | None]  # Any: the caller's

# For JSON: far deeper than anyone writes, far from exhausting Python's stack.
MAX_NESTING: Final = 100
# A message that names a file is of use with the whole path.
_LONGEST_PATH: Final = 240


@contextmanager
def of_settings() -> Iterator[None]:
    """Raise failed checks inside the block as `ConfigError`, with the same message."""
    try:
        yield
    except InputError as error:
        raise ConfigError(str(error)) from None


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Convert anything that a caller's object raises inside the block to an `InputError` about the argument `name`."""
    try:
        yield
    except GLiClassRerankError:
        raise
    except Exception as error:
        raise InputError(f"{name} cannot be read: {type(error).__name__}: {cause(error)}") from error


def is_a(value: object, kind: type | tuple[type, ...]) -> bool:
    """`isinstance` by type alone: an object may lie about its class."""
    return issubclass(type(value), kind)


class Texts(NamedTuple):
    """Strings of a caller's list.

    Attributes:
        texts: The strings, in valid Unicode.
        repaired: Indices of those in which U+FFFD replaced invalid Unicode.
        documents: Id and metadata of those that were given as documents, by index.
        originals: Repaired ones as they were given, by index.
    """

    texts: tuple[str, ...]
    repaired: tuple[int, ...] = ()
    documents: Mapping[int, _About] = MappingProxyType({})
    originals: Mapping[int, str] = MappingProxyType({})


def own_text(name: str, value: object) -> str:
    """Validate the type of a string argument; anything else, such as NaN from a data frame, is refused."""
    if not issubclass(type(value), str):
        raise InputError(f"{name} must be a string, got {shown(value)}")
    return str.__str__(value)  # its own characters, whatever a subclass returns


def checked_text(name: str, value: object) -> str:
    """Validate a string argument in valid Unicode."""
    text = own_text(name, value)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        # Lone surrogates, from badly decoded JSON or file names, fail in every tokenizer.
        raise InputError(f"{name} must be valid Unicode, got {shown(text[error.start])} at {error.start}") from None
    return text


def repaired_text(text: str) -> str:
    """Replace lone surrogates by U+FFFD, and pairs of them by their character."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def repaired_texts(name: str, values: object, *, blanks_others: bool = False) -> Texts:
    """Read a list of strings, or of documents with `text` and perhaps `id` and `metadata`, in valid Unicode.

    Args:
        name: Name of the argument.
        values: Any iterable with an order; other keys of a document are left alone.
        blanks_others: Items of another type are blank, and count as repaired; else they are refused.

    Returns:
        The texts.

    Raises:
        InputError: Not such a list.
    """
    if type(values) in (list, tuple) and all(type(value) is str for value in values):  # type: ignore[attr-defined]
        with suppress(UnicodeEncodeError):
            "".join(values).encode()  # type: ignore[arg-type]
            return Texts(tuple(values))  # type: ignore[arg-type]
    texts, originals, documents = list[str](), dict[int, str](), dict[int, _About]()
    for index, item in enumerate(_items(name, _checked_strings(name, values))):
        given, about = _text_of(f"`{name}[{index}]`", item, blanks_others=blanks_others)
        texts.append(repaired_text(given or ""))
        if given is None or texts[-1] != given:
            originals[index] = given or ""
        if about is not None:
            documents[index] = about
    return Texts(tuple(texts), tuple(originals), documents, originals)


def _text_of(name: str, item: object, *, blanks_others: bool) -> tuple[str | None, _About | None]:
    """Text of a string or document, None for a blanked one, and id and metadata of a document."""
    try:
        return _document(name, item) if is_a(item, Mapping) else (own_text(name, item), None)
    except InputError:
        if blanks_others:
            return None, None
        raise


def _document(name: str, value: object) -> tuple[str, _About]:
    """Read a document; an id that is neither a string nor a whole number is written as text."""
    with reading(name):
        document = dict(value)  # type: ignore[call-overload] # a mapping
        if "text" not in document:
            raise InputError(f"{name} needs the key `text`, got the keys {shown(sorted(map(str, document)))}")
        key, metadata = document.get("id"), document.get("metadata")
        if not (metadata is None or is_a(metadata, Mapping)):
            raise InputError(f"{name}'s `metadata` must be a mapping, got {shown(metadata)}")
        about = key if key is None or type(key) in (str, int) else str(key), metadata
        return own_text(f"{name}'s `text`", document["text"]), about


def checked_texts(name: str, values: object) -> tuple[str, ...]:
    """A list of strings in valid Unicode."""
    if type(values) in (list, tuple) and all(type(value) is str for value in values):  # type: ignore[attr-defined]
        with suppress(UnicodeEncodeError):  # which one it is, is found out below
            "".join(values).encode()  # type: ignore[arg-type]
            return tuple(values)  # type: ignore[arg-type]
    items = _items(name, _checked_strings(name, values))
    return tuple(checked_text(f"`{name}[{index}]`", value) for index, value in enumerate(items))


def _checked_strings(name: str, values: object) -> object:
    """Refuse a lone string, because it is a sequence of strings too, and a set, because it has no order."""
    if is_a(values, (str, bytes, bytearray, memoryview, Mapping, Set)) or not hasattr(type(values), "__iter__"):
        raise InputError(f"`{name}` must be a list of strings, got {shown(values)}")
    return values


def checked_list(name: str, values: object, of: str) -> list[Any]:  # Any: checked by the caller
    """Copy a list or another sequence, except a string; `of` names its items in the message."""
    is_list = is_a(values, Sequence) or hasattr(
        type(values), "__array__"
    )  # numpy arrays and pandas series are not `Sequence`s
    if is_a(values, (str, bytes, bytearray, memoryview, Mapping)) or not is_list:
        raise InputError(f"`{name}` must be a list of {of}, got {shown(values)}")
    return _items(name, values)


def _items(name: str, values: object) -> list[object]:
    with reading(f"`{name}`"):
        return list(values)  # type: ignore[call-overload, no-any-return] # what is not iterable is refused


def checked_count(name: str, value: object, *, least: int = 1) -> int:
    """Validate an integer of at least `least`, of any integer type but bool."""
    try:
        count = least - 1 if is_a(value, bool) else operator.index(value)  # type: ignore[arg-type] # refused below
    except Exception:  # noqa: BLE001 - of the caller's object
        count = least - 1
    if count < least:
        raise InputError(f"`{name}` must be a whole number of at least {least}, got {shown(value)}")
    return count


def checked_flag(name: str, value: object) -> bool:
    """Validate a truth value of any type."""
    with reading(f"`{name}`"):
        return bool(value)


def checked_choice(name: str, value: object, choices: Sequence[_Choice]) -> _Choice:
    """Validate one of several names, or None if it is among them."""
    text = str.__str__(value) if is_a(value, str) else value
    for choice in choices:
        if text is choice or (type(text) is str and text == choice):
            return choice
    raise InputError(f"`{name}` must be one of {listed(map(str, choices))}, got {shown(value)}")


def checked_path(name: str, value: object) -> Path:
    """Validate a file path and expand `~`."""
    if not is_a(value, (str, os.PathLike)):
        raise InputError(f"`{name}` must be a path, got {shown(value)}")
    with reading(f"`{name}`"):
        return Path(value).expanduser()  # type: ignore[arg-type] # as above


def nesting(value: object) -> int:
    """Nesting depth of JSON lists and dicts; 0 for a plain value. Stops just beyond `MAX_NESTING`."""
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
    """Convert a number, numpy's included, to a float; None for anything else, bools and strings included."""
    if type(value) is float:
        return value
    try:
        # The second name: numpy's bool, in either major version.
        if is_a(value, (bool, str, bytes, bytearray)) or type(value).__name__ in ("bool", "bool_"):
            return None
        if getattr(value, "ndim", 0):
            return None
        return float(value)  # type: ignore[arg-type] # refused below
    except Exception:  # noqa: BLE001 - of the caller's object
        return None


def checked_share(name: str, value: object) -> float:
    """Validate a number in [0, 1]."""
    return _checked_from(0, name, value)


def checked_cosine(name: str, value: object) -> float:
    """Validate a number in [-1, 1]."""
    return _checked_from(-1, name, value)


def _checked_from(least: int, name: str, value: object) -> float:
    number = as_number(value)
    if number is None or not least <= number <= 1:
        raise InputError(f"`{name}` must be between {least} and 1, got {shown(value)}")
    return number


def json_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """Convert constructor arguments to JSON values: paths, devices and dtypes by name, without None."""
    return {name: _json_value(name, value) for name, value in values.items() if value is not None}


def _json_value(name: str, value: Any) -> Any:  # JSON
    with of_settings(), reading(f"`{name}`"):
        if isinstance(value, bool):
            return value
        if isinstance(value, Integral):  # numpy's too
            return int(value)
        return float(value) if isinstance(value, Real) else str(value).removeprefix("torch.")
