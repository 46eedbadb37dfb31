"""Launches, copies, waits and tokens of a packed pass, counted on the device "meta"."""

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
pytestmark = pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="a source distribution has no benchmarks")

MOST_LAUNCHES = {"MiniLM-L6": 100, "ModernBERT-150M": 450}


@pytest.fixture(scope="module")
def counted():
    pytest.importorskip("torch.nn.attention.varlen", reason="an old torch has no packed attention")
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import device_counts
    finally:
        sys.path.remove(str(BENCHMARKS))
    return device_counts.counted


@pytest.mark.parametrize("plan", ["shared_query", "joint"])
@pytest.mark.parametrize("model", MOST_LAUNCHES)
@pytest.mark.parametrize(("queries", "passages"), [(1, 20), (1, 100), (64, 20)])
def test_a_call_is_one_pass_with_one_copy_few_launches_no_wait_and_no_padding(counted, model, plan, queries, passages):
    found = counted(model, plan, queries=queries, passages=passages, attention="varlen")

    assert found["launches"] <= MOST_LAUNCHES[model]
    assert (found["forwards"], found["copies_in"], found["syncs"]) == (1, 1, 0)
    assert found["tokens_computed"] == found["tokens_real"]


def test_the_number_of_queries_changes_no_launch(counted):
    few, many = (
        counted("MiniLM-L6", "shared_query", queries=queries, passages=5, attention="varlen") for queries in (1, 200)
    )

    assert few["launches"] == many["launches"]


def test_long_queries_and_biased_keys_are_attended_to_in_two_parts_with_few_more_launches(counted):
    changes = {"query_key_bias": True, "query_attention_start": 3}

    biased = counted("MiniLM-L6", "shared_query", queries=64, passages=20, attention="varlen", **changes)
    long = counted("MiniLM-L6", "shared_query", queries=1, passages=20, attention="varlen", query_tokens=512)

    for found in (biased, long):
        assert found["launches"] <= 140
        assert (found["forwards"], found["copies_in"], found["syncs"]) == (1, 1, 0)


@pytest.mark.parametrize("plan", ["shared_query", "joint"])
@pytest.mark.parametrize(("model", "queries"), [("MiniLM-L6", 1), ("DeBERTa-base", 1), ("MiniLM-L6", 4)])
def test_padded_rows_compute_at_most_115_tokens_for_100(counted, model, plan, queries):
    found = counted(model, plan, queries=queries, passages=20, attention="padded")

    assert found["tokens_real"] < found["tokens_computed"] <= 1.15 * found["tokens_real"]
    assert found["syncs"] == 0
