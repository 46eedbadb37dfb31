"""Checks of a stage's arguments."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from importlib import import_module
from typing import TYPE_CHECKING, Any

from gliclass_rerank.checks import as_number, checked_list, is_a, json_settings, of_settings, reading
from gliclass_rerank.errors import ConfigError, InputError, listed, shown
from gliclass_rerank.examples.source import checked_store
from gliclass_rerank.settings import RerankerSettings, current_names

if TYPE_CHECKING:
    from gliclass_rerank.reranker import Reranker


def reranker_or_settings(
    loading: Mapping[str, Any],
    reranker: Reranker | Mapping[str, Any] | None,  # Any: the settings' values
) -> tuple[Reranker | None, dict[str, Any]]:
    """Read the `reranker` setting.

    Args:
        loading: Settings given beside it.
        reranker: Existing reranker, settings of one, or None.

    Returns:
        Existing reranker, if any, and the arguments to load one.

    Raises:
        ConfigError: Neither a reranker nor its settings, or other settings beside it.
    """
    given = {name: value for name, value in loading.items() if value is not None}
    if reranker is None:
        return None, _loadable(given)
    if given:
        raise ConfigError(f"pass either `reranker` or {listed(given)}, not both")
    if is_a(reranker, Mapping):
        known = [each.name for each in fields(RerankerSettings)]
        with of_settings(), reading("`reranker`"):
            settings = dict(reranker)  # type: ignore[arg-type] # a mapping
            settings = current_names(settings, stacklevel=6)  # as if its owner had passed them to the stage
            unknown = [str(name) for name in settings if name not in known]
        if unknown:
            raise ConfigError(f"`reranker` may have the settings {listed(known)}, got {listed(unknown)}")
        return None, _loadable(settings)
    if not is_a(reranker, reranker_type()):
        raise ConfigError(f"`reranker` must be a `Reranker` or its settings, got {shown(reranker)}")
    return reranker, {}  # type: ignore[return-value] # one


def _loadable(settings: Mapping[str, Any]) -> dict[str, Any]:  # Any: the settings' values
    """Settings as JSON values, except a store object."""
    store = checked_store(settings.get("example_store"))
    plain = json_settings({name: value for name, value in settings.items() if name != "example_store"})
    return plain if store is None else {**plain, "example_store": store}


def reranker_type() -> type[Reranker]:
    """Import `Reranker`, and torch with it."""
    return import_module("gliclass_rerank.reranker").Reranker  # type: ignore[no-any-return] # a module is untyped


def checked_retrieval_scores(values: Sequence[float | None] | None, count: int) -> list[float | None]:
    """Validate one score for each of `count` passages; what is not finite counts as None."""
    if values is None:
        return [None] * count
    given = checked_list("retrieval_scores", values, "numbers")
    if len(given) != count:
        raise InputError(f"`retrieval_scores` must hold one number for each of the {count} passages, got {len(given)}")
    return [_retrieval_score(index, value) for index, value in enumerate(given)]


def _retrieval_score(index: int, value: object) -> float | None:
    if value is None:
        return None
    number = as_number(value)
    if number is None:
        raise InputError(f"`retrieval_scores[{index}]` must be a number, got {shown(value)}")
    # A NaN from a retriever must not stop a pipeline that ignores its scores.
    return number if math.isfinite(number) else None


def checked_ids(values: Sequence[str | None] | None, count: int) -> list[str | None]:
    """Validate one id or None for each of `count` passages; None for none."""
    if values is None:
        return [None] * count
    given = checked_list("ids", values, "strings")
    if len(given) != count:
        raise InputError(f"`ids` must hold one id for each of the {count} passages, got {len(given)}")
    return [None if value is None else _checked_id(index, value) for index, value in enumerate(given)]


def _checked_id(index: int, value: object) -> str:
    if not is_a(value, str):
        raise InputError(f"`ids[{index}]` must be a string, got {shown(value)}")
    return str.encode(value, "utf-8", "replace").decode()  # type: ignore[arg-type] # invalid Unicode stops no query
