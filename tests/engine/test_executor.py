import logging
import math

import numpy as np
import pytest

from gliclass_rerank.errors import BackendError, OutOfMemoryError
from gliclass_rerank.prompt.planner import TokenPlan
from gliclass_rerank.runtime.executor import BlockExecutor, WindowExecutor
from gliclass_rerank.runtime.passage_cache import PassageCache, write_passage_cache
from gliclass_rerank.types import Blocks, Window


class FakeNetwork:
    """Answers with the first token of each candidate; knows no memory beyond `capacity` tokens, padding included."""

    def __init__(self, capacity=10_000, answer=float):
        self.capacity = capacity
        self.answer = answer
        self.calls = []  # one list of rows' lengths a forward pass that worked
        self.states = []  # what was known of groups, one entry a request of blocks

    def window_logits(self, windows):
        lengths = [len(window.token_ids) for window in windows]
        self._check(len(windows) * max(lengths))
        self.calls.append(lengths)
        return [[self.answer(window.token_ids[marker]) for marker in window.markers] for window in windows]

    def block_logits(self, blocks, groups, cached, layer):
        self.states.append((layer, cached))
        assert sorted(index for group in groups for index in group) == list(range(len(blocks.candidate_ids)))
        lengths = [[len(blocks.candidate_ids[index]) for index in group] for group in groups]
        self._check(max(len(group) * max(group) for group in lengths))
        self.calls += lengths
        return [self.answer(ids[0]) for ids in blocks.candidate_ids]

    def _check(self, tokens):
        if tokens > self.capacity:
            raise OutOfMemoryError(f"{tokens} tokens")


def window(length, *first_tokens):
    """A window of `length` tokens whose candidates' markers hold `first_tokens`."""
    return Window((*first_tokens, *(0,) * (length - len(first_tokens))), tuple(range(len(first_tokens))), length - 1)


def blocks(*lengths):
    return Blocks((1, 2, 3), tuple((number, *(0,) * (length - 1)) for number, length in enumerate(lengths)))


def run(network, requests, batch_tokens, **options):
    """The logits of requests of one kind."""
    kind = BlockExecutor if requests and isinstance(requests[0], Blocks) else WindowExecutor
    return kind(network, batch_tokens=batch_tokens, **options).logits(requests)


def padded(call):
    return len(call) * max(call)


def test_no_requests_give_no_logits_and_no_forward_pass():
    backend = FakeNetwork()

    assert run(backend, batch_tokens=7, requests=[]) == []
    assert backend.calls == []


def test_logits_come_back_in_the_order_of_the_requests():
    windows = [window(5, 11, 12), window(29, 21), window(7, 31, 32, 33), window(13, 41)]

    assert run(FakeNetwork(), windows, 31) == [[11, 12], [21], [31, 32, 33], [41]]
    assert run(FakeNetwork(), [blocks(3, 17, 5), blocks(2)], 31) == [[0, 1, 2], [0]]


def test_logits_of_a_plan_come_in_the_order_of_its_candidates():
    plans = [
        TokenPlan((window(5, 11, 12), window(29, 21)), ((2, 0), (1,))),
        TokenPlan(),
        TokenPlan((window(7, 31),), ((0,),)),
    ]

    assert WindowExecutor(FakeNetwork(), batch_tokens=31).run(plans) == [[12, 21, 11], [], [31]]


def test_longer_windows_run_first():
    backend = FakeNetwork()

    run(backend, batch_tokens=1, requests=[window(5, 1), window(29, 1), window(7, 1)])

    assert backend.calls == [[29], [7], [5]]


def test_longer_passages_run_first():
    backend = FakeNetwork()

    run(backend, batch_tokens=1, requests=[blocks(5, 29, 7)])

    assert backend.calls == [[29], [7], [5]]


@pytest.mark.parametrize("budget", [1, 23, 67, 1000])
@pytest.mark.parametrize("as_blocks", [False, True], ids=["windows", "blocks"])
def test_every_batch_stays_within_the_budget_or_is_a_single_sequence(budget, as_blocks):
    backend = FakeNetwork()
    lengths = [3, 31, 5, 5, 17, 2, 29, 7, 11, 13, 5, 41]

    run(
        backend,
        batch_tokens=budget,
        requests=[blocks(*lengths)] if as_blocks else [window(length, 1) for length in lengths],
    )

    assert all(padded(call) <= budget or len(call) == 1 for call in backend.calls)
    assert sorted(length for call in backend.calls for length in call) == sorted(lengths)


@pytest.mark.parametrize("budget", [2048, 65536])
@pytest.mark.parametrize("count", [5, 20, 100, 1000])
def test_padding_is_at_most_an_eighth_of_what_is_read_or_a_few_tokens(budget, count):
    backend = FakeNetwork(capacity=budget)
    generator = np.random.default_rng(count)
    lengths = np.clip(generator.lognormal(4.5, 0.5, count), 3, 316).astype(int).tolist()

    run(backend, [blocks(*lengths)], budget)

    assert sum(map(padded, backend.calls)) <= 1.15 * sum(lengths)
    assert all(padded(call) <= max(1.125 * sum(call), sum(call) + 32) for call in backend.calls)


def test_loose_groups_are_limited_by_the_budget_alone():
    backend = FakeNetwork()

    run(backend, [blocks(100, 60, 60)], 2048, has_tight_groups=False)

    assert backend.calls == [[100, 60, 60]]


def test_sequences_of_one_length_share_a_batch_up_to_the_budget():
    backend = FakeNetwork()

    run(backend, batch_tokens=35, requests=[window(7, 1) for _ in range(13)])

    assert backend.calls == [[7] * 5, [7] * 5, [7] * 3]


def test_out_of_memory_halves_the_budget_until_a_batch_fits(caplog):
    backend = FakeNetwork(capacity=40)
    requests = [window(10, number) for number in range(19)]

    with caplog.at_level(logging.WARNING):
        found = run(backend, batch_tokens=130, requests=requests)

    # 130 and 65 tokens fail, 30 pass.
    assert found == [[number] for number in range(19)]
    assert backend.calls == [[10] * 3] * 6 + [[10]]
    assert caplog.messages == [
        "out of memory with 130 tokens in a batch, going on with half of it",
        "out of memory with 60 tokens in a batch, going on with half of it",
    ]


def test_windows_finished_before_memory_runs_out_are_not_run_again():
    class Shrinking(FakeNetwork):
        """Another process takes memory after the first batch."""

        def window_logits(self, windows):
            rows = super().window_logits(windows)
            self.capacity = 20
            return rows

    backend = Shrinking(capacity=40)

    found = run(backend, batch_tokens=40, requests=[window(10, number) for number in range(11)])

    assert found == [[number] for number in range(11)]
    assert backend.calls == [[10] * 4, *[[10] * 2] * 3, [10]]


def test_out_of_memory_splits_the_passages_of_a_query():
    backend = FakeNetwork(capacity=40)

    (logits,) = run(backend, batch_tokens=1000, requests=[blocks(*[10] * 19)])

    assert logits == list(range(19))
    assert all(padded(call) <= 40 for call in backend.calls)


@pytest.mark.parametrize("requests", [[window(50, 1), window(7, 1)], [blocks(50, 7)]], ids=["windows", "blocks"])
def test_a_single_sequence_that_does_not_fit_is_given_up(requests):
    with pytest.raises(OutOfMemoryError, match="50 tokens"):
        run(FakeNetwork(capacity=40), batch_tokens=1000, requests=requests)


def test_the_budget_of_one_call_does_not_shrink_the_next():
    backend = FakeNetwork(capacity=40)
    executor = WindowExecutor(backend, batch_tokens=80)
    executor.logits([window(10, 1)] * 8)
    backend.capacity = 1000
    backend.calls.clear()

    executor.logits([window(10, 1)] * 8)

    assert backend.calls == [[10] * 8]


def test_a_nan_is_an_error_and_never_a_rank():
    nothing = FakeNetwork(answer=lambda _: math.nan)

    with pytest.raises(BackendError, match="the model gave NaN as a logit"):
        WindowExecutor(nothing, batch_tokens=100).run([TokenPlan((window(7, 1),), ((0,),))])
    with pytest.raises(BackendError, match="the model gave NaN as a logit"):
        BlockExecutor(nothing, batch_tokens=100).run([TokenPlan((blocks(5),), ((0,),))])


def test_infinite_logits_are_kept():
    found = run(
        FakeNetwork(answer=lambda token: math.inf if token else -math.inf), batch_tokens=9, requests=[window(7, 0, 1)]
    )

    assert found == [[-math.inf, math.inf]]


def test_known_candidates_run_apart_with_their_states(tmp_path):
    request = blocks(3, 17, 5, 16, 4)
    with write_passage_cache(tmp_path / "cache", layer=2, digest="", dtype="float16", width=1) as writer:
        for index in (0, 3, 4):
            ids = request.candidate_ids[index]
            writer.add(ids, np.full((len(ids), 1), index + 1, dtype=np.float32))
    backend = FakeNetwork()
    cache = PassageCache(tmp_path / "cache")

    assert run(backend, [request, blocks(2)], 32, passage_cache=cache) == [[0, 1, 2, 3, 4], [0]]

    assert backend.calls == [[17], [5], [16], [4, 3], [2]]
    (layer, found), (_, nothing) = backend.states
    assert (layer, nothing) == (2, {})
    assert {number: states[:, :, 0].tolist() for number, states in found.items()} == {
        2: [[4] * 16],
        3: [[5] * 4, [1] * 3 + [0]],
    }


def test_out_of_memory_halves_the_groups_of_known_candidates_too(tmp_path, caplog):
    request = blocks(*[10] * 8)
    with write_passage_cache(tmp_path / "cache", layer=1, digest="", dtype="int8", width=1) as writer:
        for ids in request.candidate_ids:
            writer.add(ids, np.ones((10, 1), dtype=np.float32))
    backend = FakeNetwork(capacity=40)
    cache = PassageCache(tmp_path / "cache")

    with caplog.at_level(logging.WARNING):
        assert run(backend, [request], 80, passage_cache=cache) == [[*range(8)]]

    assert backend.calls == [[10] * 4] * 2
    assert [states.shape for states in backend.states[-1][1].values()] == [(4, 10, 1)] * 2
