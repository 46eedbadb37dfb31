"""Tools for adapters of RAG frameworks: checks of a framework's objects, their texts and copies, settings to save.

Importing this module loads no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final, TypeVar

from gliclass_rerank.checks import checked_count, reading
from gliclass_rerank.errors import InputError, shown
from gliclass_rerank.settings import RerankerSettings
from gliclass_rerank.types import Example

if TYPE_CHECKING:
    from gliclass_rerank.reranker import Reranker

__all__ = [
    "as_text",
    "checked_cutoff",
    "checked_items",
    "owned",
    "owned_examples",
    "owned_reranker",
    "plain_reranker",
    "reading",
    "shown",
    "text_with_metadata",
]

_Kind = TypeVar("_Kind")
_CONTAINERS: Final = frozenset((dict, list, set, tuple))


def checked_items(name: str, values: Iterable[Any], kind: type[_Kind]) -> list[_Kind]:  # Any: checked here
    """Copy a list of a framework's objects.

    Args:
        name: Name of the argument, for the message.
        values: Any iterable but a string or a single object.
        kind: Type of the objects.

    Returns:
        The objects.

    Raises:
        InputError: Not a list of such objects, or one that cannot be read.
    """
    if isinstance(values, (str, bytes, kind)) or not isinstance(values, Iterable):
        raise InputError(f"`{name}` must be a list of {name}, got {shown(values)}")
    with reading(f"`{name}`"):
        items = list(values)
    for index, item in enumerate(items):
        if not isinstance(item, kind):
            raise InputError(f"`{name}[{index}]` must be a `{kind.__name__}`, got {shown(item)}")
    return items


def checked_cutoff(name: str, value: Any) -> int | None:  # Any: checked here
    """Validate a number of results under the framework's name for it: a whole number of at least 1, or None."""
    return None if value is None else checked_count(name, value)


def text_with_metadata(
    content: str | None,
    metadata: Mapping[str, Any],  # Any: whatever a framework's user put there
    keys: Iterable[str],
    separator: str,
) -> str:
    """Join the text to rank: values of metadata keys, then the content.

    Args:
        content: Text of a document; None for an empty one.
        metadata: Metadata of the document.
        keys: Metadata keys, in order; missing and None values are skipped.
        separator: Separator between the parts.

    Returns:
        The text; blank if there is nothing to rank.

    Raises:
        InputError: A part cannot be read.
    """
    with reading("a document's text"):
        values = (metadata.get(key) for key in keys)
        return separator.join(
            [*(str(value) for value in values if value is not None), "" if content is None else content]
        )


def owned(value: Any) -> Any:  # Any: whatever metadata holds
    """Copy metadata: dicts, lists, tuples and sets are new at every depth, other values are shared.

    Unlike `copy.deepcopy`, this neither copies arrays nor fails on clients and locks, and is quick for lists of
    numbers.
    """
    kind = type(value)
    if kind is dict:
        return {key: owned(item) if type(item) in _CONTAINERS else item for key, item in value.items()}
    if kind is list or kind is tuple:
        return kind(value) if _CONTAINERS.isdisjoint(map(type, value)) else kind(map(owned, value))
    return value.copy() if kind is set else value


def as_text(value: Any) -> Any:  # Any: a path, or any other setting
    """Convert a path to text; any other value stays."""
    return str(value) if isinstance(value, PurePath) else value


def owned_reranker(reranker: Any) -> Any:  # Any: a reranker, its settings, or a value for the stage to refuse
    """Copy a `reranker` setting if it is a mapping: names of today, paths as text."""
    if not isinstance(reranker, Mapping):
        return reranker
    return {name: as_text(value) for name, value in RerankerSettings.renamed(reranker).items()}


def plain_reranker(reranker: Reranker | Mapping[str, Any] | None) -> dict[str, Any] | None:  # Any: the settings' values
    """Convert a `reranker` setting to JSON values; a `ConfigError` if its example store is an object."""
    if reranker is None:
        return None
    return RerankerSettings(**reranker).to_dict() if isinstance(reranker, Mapping) else reranker.settings


def owned_examples(examples: Any) -> Any:  # Any: a list of examples, or a value for the stage to refuse
    """Read a list of examples into a tuple of `Example`; anything but a list stays. `InputError` for a wrong item."""
    if isinstance(examples, (str, Mapping)) or not isinstance(examples, Sequence):
        return examples
    return tuple(map(Example.of, examples))
