"""Batches of queries for rankings that are yielded one by one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from gliclass_rerank.checks import is_a
from gliclass_rerank.errors import InputError, shown
from gliclass_rerank.types import Passage

# Enough queries to fill several forward passes, few enough for the first ranking to come soon.
_PASSES_AT_ONCE: Final = 4
_CHARS_OF_TOKEN: Final = 4
_CHARS_OF_DOCUMENT: Final = 500


def query_batches(
    pairs: Iterable[tuple[str, Sequence[Passage]]], pass_tokens: int
) -> Iterator[tuple[list[str], list[Sequence[Passage]]]]:
    """Gather queries and their passages until they fill a few forward passes of `pass_tokens` tokens."""
    if is_a(pairs, str) or not is_a(pairs, Iterable):
        raise InputError(f"`pairs` must be an iterable of queries, each with its passages, got {shown(pairs)}")
    queries, lists, read = list[str](), list[Sequence[Passage]](), 0
    num_chars = _PASSES_AT_ONCE * _CHARS_OF_TOKEN * pass_tokens
    for pair in pairs:
        if not is_a(pair, tuple) or len(pair) != 2:
            raise InputError(f"each of `pairs` must be a tuple of a query and its passages, got {shown(pair)}")
        query, passages = pair
        queries.append(query)
        lists.append(passages)
        if is_a(passages, Sequence):
            read += sum(len(each) if isinstance(each, str) else _CHARS_OF_DOCUMENT for each in passages)
        if read >= num_chars:
            yield queries, lists
            queries, lists, read = [], [], 0
    if queries:
        yield queries, lists
