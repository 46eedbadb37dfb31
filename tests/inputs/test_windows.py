import random

import pytest

from gliclass_rerank.prompt.windows import pack


def random_cases(count=200, seed=11):
    rng = random.Random(seed)
    for _ in range(count):
        capacity = rng.randint(1, 40)
        yield [rng.randint(1, 50) for _ in range(rng.randint(1, 23))], capacity


def totals(lengths, groups):
    return [sum(lengths[index] for index in group) for group in groups]


def fewest_groups(lengths, capacity):
    """The least number of consecutive groups, by dynamic programming."""
    best = [0] + [len(lengths) + 1] * len(lengths)
    for end in range(1, len(lengths) + 1):
        for start in range(end):
            if end - start == 1 or sum(lengths[start:end]) <= capacity:
                best[end] = min(best[end], best[start] + 1)
    return best[-1]


def test_no_items_give_no_groups():
    assert pack([], 7) == []


@pytest.mark.parametrize("capacity", [1, 6, 1000])
def test_one_item_is_one_group_whatever_its_length(capacity):
    assert pack([7], capacity) == [range(1)]


def test_groups_cover_every_item_once_in_order():
    for lengths, capacity in random_cases():
        groups = pack(lengths, capacity)

        assert [index for group in groups for index in group] == list(range(len(lengths)))


def test_only_a_single_item_may_exceed_the_capacity():
    for lengths, capacity in random_cases():
        groups = pack(lengths, capacity)

        assert all(
            total <= capacity or len(group) == 1 for total, group in zip(totals(lengths, groups), groups, strict=True)
        )


def test_there_are_as_few_groups_as_consecutive_packing_allows():
    for lengths, capacity in random_cases():
        assert len(pack(lengths, capacity)) == fewest_groups(lengths, capacity)


def test_the_longest_group_is_as_short_as_that_number_of_groups_allows():
    for lengths, capacity in random_cases():
        groups = pack(lengths, capacity)
        longest = max(totals(lengths, groups))

        # One token less does not do, unless a single item sets the length.
        assert longest == max(lengths) or fewest_groups(lengths, longest - 1) > len(groups)


def test_groups_are_even_instead_of_full_and_a_small_rest():
    assert pack([3] * 8, 21) == [range(4), range(4, 8)]


def test_an_item_longer_than_the_capacity_stands_alone():
    assert pack([2, 2, 29, 2, 2], 5) == [range(2), range(2, 3), range(3, 5)]
