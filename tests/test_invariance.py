"""What a score may depend on: under `shared_query` on query and passage alone, under `joint` on its window too."""

import random

import pytest
from tiny_checkpoints import write_tiny_checkpoint

from gliclass_rerank import Example, Reranker

QUERY = "chain slip when wet"
EXAMPLES = (
    Example("brake squeal", true_labels=("clean rim and pad",), false_labels=("oil chain", "pump tire")),
    Example("loose spoke", false_labels=("wax chain",)),
)
# Group shapes select other kernels and another order of summation, which move the last bits of float32; logits are of
# order 1.
TOLERANCE = 2e-5
SMALL, LARGE = 64, 4096  # a group of one or a few passages; everything in one group


@pytest.fixture(scope="module")
def rerankers(tiny_folders):
    return {
        (name, tokens): Reranker(folder, device="cpu", plan="shared_query", batch_tokens=tokens)
        for name, folder in tiny_folders.items()
        for tokens in (SMALL, LARGE)
    }


def logits(reranker, passages, **options):
    """Logits in the order of `passages`."""
    return [hit.logit for hit in sorted(reranker.rank(QUERY, passages, **options), key=lambda hit: hit.index)]


@pytest.fixture(params=[None, EXAMPLES], ids=["plain", "examples"])
def options(request):
    return {"examples": request.param}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_any_permutation_gives_every_passage_the_same_logit(rerankers, backbone, passages, options, seed):
    reranker = rerankers[backbone, SMALL]
    expected = dict(zip(passages, logits(reranker, passages, **options), strict=True))
    shuffled = random.Random(seed).sample(passages, k=len(passages))

    found = dict(zip(shuffled, logits(reranker, shuffled, **options), strict=True))

    assert found == pytest.approx(expected, abs=TOLERANCE)


def test_the_batch_split_changes_no_logit(rerankers, backbone, passages, options):
    split = logits(rerankers[backbone, SMALL], passages, **options)

    together = logits(rerankers[backbone, LARGE], passages, **options)

    assert together == pytest.approx(split, abs=TOLERANCE)


def test_companions_change_no_logit(rerankers, backbone, passages, options):
    reranker = rerankers[backbone, LARGE]
    together = logits(reranker, passages, **options)

    alone = [logits(reranker, [passage], **options)[0] for passage in passages]

    assert alone == pytest.approx(together, abs=TOLERANCE)


def test_other_queries_of_a_call_change_no_logit(rerankers, backbone, passages):
    reranker = rerankers[backbone, LARGE]
    expected = reranker.rank(QUERY, passages)

    _, among_others, _ = reranker.rank_many(["oil", QUERY, "rust on rim"], [passages[:5], passages, passages[3:]])

    assert among_others.hits == expected.hits  # the same forward pass, so the same bits


@pytest.mark.parametrize("start", [0, 1, 2, 3])
def test_invariance_holds_wherever_passages_start_to_see_the_query(tmp_path, backbone, passages, start):
    folder = write_tiny_checkpoint(tmp_path / "tiny", backbone, query_attention_start=start)
    reranker = Reranker(folder, device="cpu", plan="shared_query", batch_tokens=SMALL)

    forwards, backwards = logits(reranker, passages), logits(reranker, passages[::-1])

    assert backwards[::-1] == pytest.approx(forwards, abs=TOLERANCE)


def test_invariance_holds_with_biased_keys_and_compared_tokens(tmp_path, backbone, passages, options):
    ours = {"attention_plan": "shared_query", "query_key_bias": True, "token_interaction": True}
    folder = write_tiny_checkpoint(tmp_path / "tiny", backbone, query_attention_start=1, **ours)
    small, large = (Reranker(folder, device="cpu", batch_tokens=tokens) for tokens in (SMALL, LARGE))

    forwards = logits(large, passages, **options)

    assert logits(small, passages[::-1], **options)[::-1] == pytest.approx(forwards, abs=TOLERANCE)
    assert [logits(small, [passage], **options)[0] for passage in passages] == pytest.approx(forwards, abs=TOLERANCE)


def test_these_models_would_show_a_leak(tiny_folder, rerankers, backbone, passages):
    """Without this, a model that ignores positions and companions would make the tests above pass."""
    joint = Reranker(tiny_folder, device="cpu", plan="joint")

    forwards, backwards = logits(joint, passages), logits(joint, passages[::-1])
    spread = logits(rerankers[backbone, LARGE], passages)

    assert max(abs(a - b) for a, b in zip(forwards, backwards[::-1], strict=True)) > 1e-2
    assert max(spread) - min(spread) > 0.1


def test_joint_windows_of_one_batch_do_not_see_each_other(tiny_folder, passages):
    one_by_one = Reranker(tiny_folder, device="cpu", plan="joint", window_tokens=50, batch_tokens=1)
    padded_together = Reranker(tiny_folder, device="cpu", plan="joint", window_tokens=50, batch_tokens=100_000)
    assert len(one_by_one.rank(QUERY, passages).windows) > 3

    assert logits(padded_together, passages) == pytest.approx(logits(one_by_one, passages), abs=TOLERANCE)


def test_joint_gives_the_same_bits_twice(tiny_folder, passages):
    reranker = Reranker(tiny_folder, device="cpu", plan="joint")

    assert reranker.rank(QUERY, passages) == reranker.rank(QUERY, passages)


def test_joint_windows_hold_every_distinct_passage_once_in_order(tiny_folder, passages):
    reranker = Reranker(tiny_folder, device="cpu", plan="joint", window_tokens=50)
    twice = [*passages, *passages[::-1]]

    windows = reranker.rank(QUERY, twice).windows

    assert [index for window in windows for index in window] == list(range(len(passages)))
