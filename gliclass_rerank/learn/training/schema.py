"""Strict conversion of YAML and JSON values to frozen dataclasses.

Unknown keys, missing keys and wrong types are reported by path, such as `sources[0].losses[1].gamma`.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from gliclass_rerank.errors import ConfigError, listed, shown

Settings = TypeVar("Settings")

_KINDS: Mapping[type, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "a string"}


def read_settings(kind: type[Settings], values: object, *, at: str = "") -> Settings:
    """Build a dataclass from a mapping.

    Args:
        kind: Dataclass with fields of scalars, paths, literals, tuples or such dataclasses.
        values: Mapping by field; fields with a default may be absent.
        at: Path of `values`, for messages.

    Returns:
        Validated dataclass.

    Raises:
        ConfigError: A key is unknown or missing, or a value has the wrong type or is refused.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{_named(at)} must be a mapping of settings, got {shown(values)}")
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type] # a dataclass
    if unknown := {str(key) for key in values} - fields.keys():
        near = {match for key in unknown for match in get_close_matches(key, fields, n=1)}
        raise ConfigError(
            f"{_named(at)} has unknown keys: {listed(unknown)}{f'; near: {listed(near)}' if near else ''}"
        )
    required = {name for name, field in fields.items() if _is_required(field)}
    if missing := required - values.keys():
        raise ConfigError(f"{_named(at)} lacks the keys {listed(missing)}")
    hints = get_type_hints(kind)
    read = {key: _read(hints[key], value, f"{at}.{key}" if at else key) for key, value in values.items()}
    try:
        return kind(**read)
    except ConfigError as error:
        raise ConfigError(f"{_named(at)}: {error}" if at else str(error)) from None


def plain(value: object) -> Any:  # Any: JSON
    """Convert a dataclass to mappings, lists and scalars, defaults included; inverse of `read_settings`."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [plain(part) for part in value]
    return str(value) if isinstance(value, Path) else value


def _is_required(field: dataclasses.Field[Any]) -> bool:  # Any: a field of any type
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _named(at: str) -> str:
    return f"`{at}`" if at else "the config"


def _read(kind: Any, value: object, at: str) -> Any:  # Any: types as data
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in get_args(kind):
            return None
        (kind,) = (part for part in get_args(kind) if part is not type(None))
        return _read(kind, value, at)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"`{at}` must be a list, got {shown(value)}")
        return tuple(_read(get_args(kind)[0], part, f"{at}[{index}]") for index, part in enumerate(value))
    if origin is Literal:
        if value not in get_args(kind):
            raise ConfigError(f"`{at}` must be one of {listed(get_args(kind))}, got {shown(value)}")
        return value
    if dataclasses.is_dataclass(kind):
        return read_settings(typing.cast(type, kind), value, at=at)
    return _scalar(kind, value, at)


def _scalar(kind: Any, value: object, at: str) -> Any:  # Any: types as data
    if kind is Path and isinstance(value, (str, Path)) and str(value):
        return Path(value)
    if kind is float and isinstance(value, (int, str)) and not isinstance(value, bool):
        try:
            return float(value)  # YAML reads 2e-5, without a point, as a string
        except ValueError:
            pass
    if kind is not Path and isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    raise ConfigError(f"`{at}` must be {_KINDS.get(kind, 'a path')}, got {shown(value)}")
