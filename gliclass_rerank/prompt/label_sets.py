"""Label sets: lists, hierarchies, one set for all texts or one a text, and descriptions of labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from itertools import chain
from typing import Any

from gliclass_rerank.checks import checked_list, checked_text, checked_texts, is_a, reading
from gliclass_rerank.errors import InputError, shown

Labels = Sequence[str] | Mapping[str, Any]  # Any: a hierarchy of any depth

SEPARATOR = "."


def flatten_labels(labels: Labels, separator: str = SEPARATOR) -> tuple[str, ...]:
    """Flatten a label hierarchy into dotted names.

    Args:
        labels: List of labels, or mappings nested to any depth with labels or lists of labels as leaves.
        separator: Text between the names of two levels.

    Returns:
        Names such as `topic.product`, in insertion order.

    Raises:
        InputError: `labels` is neither.
    """
    if is_a(labels, Mapping):
        with reading("`labels`"):  # a hierarchy of any depth
            return tuple(_joined(labels, (), separator))
    return checked_texts("labels", labels)


def label_sets(labels: Labels | Sequence[Labels], num_texts: int, separator: str = SEPARATOR) -> list[tuple[str, ...]]:
    """Read the labels of several texts.

    Args:
        labels: Labels for all texts, or one list or hierarchy per text.
        num_texts: Number of texts.
        separator: Text between the names of two levels of a hierarchy.

    Returns:
        Flat labels, per text.

    Raises:
        InputError: `labels` is neither, or there are more or fewer sets than texts.
    """
    if not is_a(labels, Sequence) or is_a(labels, (str, bytes)):
        return [flatten_labels(labels, separator)] * num_texts  # type: ignore[arg-type] # what is no list of lists
    items = checked_list("labels", labels, "labels")
    is_per_text = items and all(
        is_a(item, Mapping) or (is_a(item, Sequence) and not is_a(item, (str, bytes))) for item in items
    )
    if not is_per_text:
        return [flatten_labels(items, separator)] * num_texts
    if len(items) != num_texts:
        raise InputError(f"`labels` must hold one list for each of the {num_texts} texts, got {len(items)}")
    return [flatten_labels(item, separator) for item in items]


def described(sets: Sequence[tuple[str, ...]], descriptions: Mapping[str, str] | None) -> list[tuple[str, ...]]:
    """Append descriptions to labels, as the model reads them: `label: description`.

    Args:
        sets: Labels of each text.
        descriptions: Description by label, for some or all of them; None for none.

    Returns:
        Labels with their descriptions.

    Raises:
        InputError: `descriptions` is not a mapping of strings, or describes a label that no text has.
    """
    if descriptions is None:
        return list(sets)
    if not is_a(descriptions, Mapping):
        raise InputError(f"`descriptions` must map labels to descriptions, got {shown(descriptions)}")
    with reading("`descriptions`"):
        given = {
            checked_text("a key of `descriptions`", label): checked_text(f"the description of {shown(label)}", text)
            for label, text in descriptions.items()
        }
    known = dict.fromkeys(chain.from_iterable(sets))
    for label in given.keys() - known.keys() if sets else ():
        near = get_close_matches(label, known, n=1)
        hint = f"; did you mean {shown(near[0])}?" if near else ""
        raise InputError(f"`descriptions` must describe given labels, got {shown(label)}{hint}")
    return [tuple(f"{label}: {given[label]}" if label in given else label for label in labels) for labels in sets]


def _joined(node: object, path: tuple[str, ...], separator: str) -> Iterable[str]:
    if is_a(node, Mapping):
        for key, value in node.items():  # type: ignore[attr-defined] # a mapping's
            yield from _joined(value, (*path, checked_text("a key of `labels`", key)), separator)
    elif is_a(node, str):
        yield separator.join((*path, checked_text("one of `labels`", node)))
    else:
        for label in checked_texts("labels", node):
            yield separator.join((*path, label))
