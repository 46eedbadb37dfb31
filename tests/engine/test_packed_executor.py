import logging
from collections.abc import Sequence

import pytest

from gliclass_rerank.errors import OutOfMemoryError
from gliclass_rerank.prompt.planner import TokenPlan
from gliclass_rerank.runtime.packed import PackedBlockExecutor, PackedWindowExecutor
from gliclass_rerank.types import Blocks, Window


class FakePasses:
    """Answers with the first token of each candidate; knows no memory beyond `capacity` tokens."""

    def __init__(self, capacity: int = 10_000):
        self.capacity = capacity
        self.passes = []  # the requests of each pass that worked
        self.log = []  # launched and awaited passes by number, in order

    def launch(self, requests: Sequence[Blocks | Window]):
        if tokens(requests) > self.capacity:
            raise OutOfMemoryError(f"{tokens(requests)} tokens")
        number = len(self.passes)
        self.passes.append(requests)
        self.log.append(("launched", number))
        return lambda: self.log.append(("awaited", number)) or [self._logits(request) for request in requests]

    @staticmethod
    def _logits(request):
        if isinstance(request, Window):
            return [float(request.token_ids[marker]) for marker in request.markers]
        return [float(ids[0]) for ids in request.candidate_ids]


def blocks(*lengths, first=0):
    ids = tuple((first + number, *(0,) * (length - 1)) for number, length in enumerate(lengths))
    return Blocks((1, 2, 3), ids)


def window(length, *first_tokens):
    return Window((*first_tokens, *(0,) * (length - len(first_tokens))), tuple(range(len(first_tokens))), length - 1)


def tokens(requests):
    own = [request.token_ids if isinstance(request, Window) else request.query_ids for request in requests]
    return sum(map(len, own)) + sum(len(ids) for request in requests for ids in request.candidate_ids)


def test_queries_share_a_pass_up_to_the_budget():
    passes = FakePasses()
    requests = [blocks(10, 20, first=100 * number) for number in range(5)]

    found = PackedBlockExecutor(passes, batch_tokens=70).logits(requests)

    assert found == [[100 * number, 100 * number + 1] for number in range(5)]
    assert all(tokens(each) <= 70 for each in passes.passes)
    assert len(passes.passes) == 3


def test_candidates_of_a_query_are_distributed_over_passes_with_the_query_in_each():
    passes = FakePasses()

    (found,) = PackedBlockExecutor(passes, batch_tokens=43).logits([blocks(*[10] * 9)])

    assert found == list(range(9))
    assert [len(each[0].candidate_ids) for each in passes.passes] == [4, 4, 1]
    assert {each[0].query_ids for each in passes.passes} == {(1, 2, 3)}


def test_the_callers_order_of_candidates_changes_no_pass():
    first, second = FakePasses(), FakePasses()
    request = blocks(5, 7, 5, 9, 7, 1)

    PackedBlockExecutor(first, batch_tokens=20).logits([request])
    PackedBlockExecutor(second, batch_tokens=20).logits([Blocks(request.query_ids, request.candidate_ids[::-1])])

    assert first.passes == second.passes


def test_windows_share_a_pass_up_to_the_budget():
    passes = FakePasses()
    windows = [window(10, 11, 12), window(20, 21), window(15, 31, 32, 33)]

    assert PackedWindowExecutor(passes, batch_tokens=30).logits(windows) == [[11, 12], [21], [31, 32, 33]]
    assert passes.passes == [windows[:2], windows[2:]]


def test_a_pass_is_awaited_when_the_next_one_is_launched():
    passes = FakePasses()

    PackedWindowExecutor(passes, batch_tokens=10).logits([window(10, number) for number in range(3)])

    assert passes.log == [
        ("launched", 0),
        ("launched", 1),
        ("awaited", 0),
        ("launched", 2),
        ("awaited", 1),
        ("awaited", 2),
    ]


def test_plans_are_made_while_the_pass_before_runs():
    passes = FakePasses()

    def plans():
        for number in range(3):
            passes.log.append(("planned", number))
            yield TokenPlan((window(10, number),), ((0,),))

    assert PackedWindowExecutor(passes, batch_tokens=10).run(plans()) == [[0], [1], [2]]
    assert passes.log.index(("planned", 1)) > passes.log.index(("launched", 0))
    assert passes.log.index(("planned", 2)) < passes.log.index(("awaited", 1))


def test_out_of_memory_halves_the_budget_and_finished_passes_are_not_run_again(caplog):
    class Shrinking(FakePasses):
        """Another process takes memory after the first pass."""

        def launch(self, requests):
            wait = super().launch(requests)
            self.capacity = 33
            return wait

    passes = Shrinking()

    with caplog.at_level(logging.WARNING):
        found = PackedBlockExecutor(passes, batch_tokens=83).logits([blocks(*[10] * 8), blocks(*[10] * 5, first=8)])

    assert found == [[*map(float, range(8))], [*map(float, range(8, 13))]]
    ran = [ids[0] for each in passes.passes for request in each for ids in request.candidate_ids]
    assert sorted(ran) == list(range(13))
    assert caplog.messages == ["out of memory with 50 tokens in a batch, going on with half of it"]


@pytest.mark.parametrize(
    ("executor", "request_"), [(PackedBlockExecutor, blocks(50, 7)), (PackedWindowExecutor, window(53, 1))]
)
def test_a_sequence_that_does_not_fit_alone_is_given_up(executor, request_):
    with pytest.raises(OutOfMemoryError, match="53 tokens"):
        executor(FakePasses(capacity=40), batch_tokens=1000).logits([request_])


def test_no_requests_need_no_pass():
    passes = FakePasses()

    assert PackedBlockExecutor(passes, batch_tokens=7).run([TokenPlan(), TokenPlan()]) == [[], []]
    assert passes.passes == []
