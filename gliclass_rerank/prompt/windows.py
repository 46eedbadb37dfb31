"""Packing under a token budget: plain arithmetic on lengths, deterministic, order kept."""

from __future__ import annotations

from collections.abc import Sequence


def pack(lengths: Sequence[int], capacity: int) -> list[range]:
    """Cut a list into as few consecutive groups as the capacity allows, then even the groups out.

    Consecutive, so that which candidates see each other depends on the caller's order and nothing else; even, because
    windows of one length need no padding.

    Args:
        lengths: Tokens of each item, markers included.
        capacity: Tokens a group may hold. An item longer than that is a group of its own.

    Returns:
        Consecutive ranges that cover all items in order.
    """
    needed = len(_greedy(lengths, capacity))
    low, high = 1, capacity
    while low < high:
        middle = (low + high) // 2
        if len(_greedy(lengths, middle)) <= needed:
            high = middle
        else:
            low = middle + 1
    return _greedy(lengths, low)


def _greedy(lengths: Sequence[int], capacity: int) -> list[range]:
    groups, start, total = [], 0, 0
    for index, length in enumerate(lengths):
        if index > start and total + length > capacity:
            groups.append(range(start, index))
            start, total = index, 0
        total += length
    return [*groups, range(start, len(lengths))] if lengths else groups
