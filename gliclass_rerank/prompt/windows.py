"""Packing under a token budget: deterministic, order-preserving."""

from __future__ import annotations

from collections.abc import Sequence


def pack(lengths: Sequence[int], capacity: int) -> list[range]:
    """Cut a list into the fewest consecutive groups under a capacity, then even them out.

    Consecutive groups make visibility depend on the caller's order alone; even ones need little padding.

    Args:
        lengths: Tokens per item, markers included.
        capacity: Tokens per group. A longer item forms a group of its own.

    Returns:
        Consecutive ranges covering all items.
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
