"""The public `Reranker`: order, scores and options. Wrong arguments have a file of their own."""

import asyncio
import copy
import json
import math
import pickle

import numpy as np
import pytest
import torch

from gliclass_rerank import ConfigError, Example, InputError, Reranker, Truncation
from gliclass_rerank.checkpoint.location import DEFAULT_RANKER

QUERY = "chain slip"
LOGITS = {"oil": 0.5, "wax": 2.0, "rust": -1.0, "pump tire": 2.0, "hill": 0.0}
EXAMPLES = [
    {"text": "brake squeal", "labels": ["clean pad"], "all_labels": ["clean pad", "wax"]},
    {"text": "loose spoke", "true_labels": ["torque wrench"]},
]


def indices(ranking):
    return [hit.index for hit in ranking]


@pytest.fixture(scope="module")
def tiny(tiny_folders):
    return Reranker(tiny_folders["deberta-v2"], device="cpu")


def test_hits_come_by_descending_logit_and_ties_by_index(scripted):
    reranker, _ = scripted(LOGITS)

    ranking = reranker.rank(QUERY, list(LOGITS))

    assert indices(ranking) == [1, 3, 0, 4, 2]
    assert [hit.logit for hit in ranking] == [2.0, 2.0, 0.5, 0.0, -1.0]


def test_a_score_is_the_sigmoid_of_its_logit(scripted):
    reranker, _ = scripted(LOGITS)

    for hit in reranker.rank(QUERY, list(LOGITS)):
        assert hit.score == pytest.approx(1 / (1 + math.exp(-hit.logit)), rel=1e-12)  # float64 arithmetic


def test_logits_too_large_for_different_scores_still_rank(scripted):
    logits = {"oil": 50.0, "wax": 49.0, "rust": 700.0, "hill": 51.0, "cog": -800.0, "rim": -900.0}
    reranker, _ = scripted(logits)

    ranking = reranker.rank(QUERY, list(logits))

    assert indices(ranking) == [2, 3, 0, 1, 4, 5]
    assert [hit.score for hit in ranking] == [1.0, 1.0, 1.0, 1.0, 0.0, 0.0]


@pytest.mark.parametrize(("top_k", "expected"), [(None, 5), (1, 1), (3, 3), (5, 5), (1000, 5)])
def test_top_k_keeps_the_first_hits(scripted, top_k, expected):
    reranker, _ = scripted(LOGITS)

    assert indices(reranker.rank(QUERY, list(LOGITS), top_k=top_k)) == [1, 3, 0, 4, 2][:expected]


def test_no_passages_give_an_empty_ranking_without_a_forward_pass(scripted):
    reranker, backend = scripted(LOGITS)

    ranking = reranker.rank(QUERY, [])

    assert len(ranking) == 0
    assert ranking.truncated == ranking.windows == ()
    assert backend.scored == []


@pytest.mark.parametrize("plan", ["joint", "shared_query"])
def test_blank_passages_are_ranked_like_any_other(tiny_folder, plan):
    reranker = Reranker(tiny_folder, device="cpu", plan=plan)

    ranking = reranker.rank(QUERY, ["", "oil", "  ", "\n"])

    assert sorted(indices(ranking)) == [0, 1, 2, 3]
    assert all(math.isfinite(hit.logit) for hit in ranking)


def test_equal_passages_are_scored_once_and_reported_at_each_index(scripted):
    reranker, backend = scripted(LOGITS)

    ranking = reranker.rank(QUERY, ["oil", "wax", "oil", "oil", "wax"])

    assert len(backend.scored) == 2
    assert indices(ranking) == [1, 4, 0, 2, 3]


def test_equal_passages_are_one_passage_to_the_model(tiny):
    once = {hit.index: hit.logit for hit in tiny.rank(QUERY, ["oil", "wax rust"])}

    twice = {hit.index: hit.logit for hit in tiny.rank(QUERY, ["oil", "wax rust", "oil"])}

    assert twice == {**once, 2: once[0]}


@pytest.mark.parametrize("plan", ["joint", "shared_query"])
def test_a_plan_can_be_forced_and_is_told(tiny_folder, plan):
    assert Reranker(tiny_folder, device="cpu", plan=plan).plan == plan


def test_without_a_plan_the_checkpoints_is_taken(bundled, tiny):
    assert (bundled.plan, tiny.plan) == ("shared_query", "joint")


def test_the_windows_of_the_joint_plan_are_told_and_those_of_the_other_are_empty(bundled, tiny):
    assert tiny.rank(QUERY, ["oil", "wax"]).windows == ((0, 1),)
    assert bundled.rank(QUERY, ["oil", "wax"]).windows == ()


@pytest.mark.parametrize(("plan", "room"), [("joint", 13 - 3 - 2 - 1), ("shared_query", 13 - 1 - 1)])
def test_cut_passages_are_reported_at_every_index_they_have(tiny_folder, plan, room):
    reranker = Reranker(tiny_folder, device="cpu", plan=plan, max_window_tokens=13, long_passages="cut")
    long = "oil " * 17

    ranking = reranker.rank(QUERY, ["wax", long, "rust", long], top_k=1)

    assert ranking.truncated == (Truncation(1, 17, 17 - room), Truncation(3, 17, 17 - room))


@pytest.mark.parametrize("plan", ["joint", "shared_query"])
def test_examples_change_the_logits(tiny_folder, plan):
    reranker = Reranker(tiny_folder, device="cpu", plan=plan)

    without, with_examples = (reranker.rank(QUERY, ["oil", "wax"], examples=given) for given in (None, EXAMPLES))

    assert with_examples.hits != without.hits


def test_examples_may_be_mappings_or_values(tiny):
    values = [Example("brake squeal", ("clean pad",), ("wax",)), Example("loose spoke", ("torque wrench",))]

    assert tiny.rank(QUERY, ["oil"], examples=values) == tiny.rank(QUERY, ["oil"], examples=EXAMPLES)


def test_nothing_the_caller_passes_is_changed(tiny):
    passages, examples = ["oil", "wax", "oil", ""], copy.deepcopy(EXAMPLES)

    tiny.rank(QUERY, passages, top_k=2, examples=examples)

    assert passages == ["oil", "wax", "oil", ""]
    assert examples == EXAMPLES


def test_many_queries_give_what_each_gives_alone(bundled):
    queries, lists = [QUERY, "brake squeal", QUERY], [["oil", "wax", "rust"], [], ["hill"]]

    found = bundled.rank_many(queries, lists, top_k=2)

    assert found == [bundled.rank(query, given, top_k=2) for query, given in zip(queries, lists, strict=True)]


def test_many_joint_queries_share_batches_and_change_by_rounding_only(tiny, passages):
    queries, lists = [QUERY, "brake squeal"], [passages[:11], passages[5:]]

    found = tiny.rank_many(queries, lists)

    for ranking, query, given in zip(found, queries, lists, strict=True):
        alone = tiny.rank(query, given)
        assert ranking.windows == alone.windows
        # Padding next to another query's windows takes another kernel; logits are of order 1.
        assert {hit.index: hit.logit for hit in ranking} == pytest.approx(
            {hit.index: hit.logit for hit in alone}, abs=1e-5
        )


def test_ranking_asynchronously_gives_the_same(bundled):
    found = asyncio.run(bundled.arank(QUERY, ["oil", "wax", "rust"], top_k=2))

    assert found == bundled.rank(QUERY, ["oil", "wax", "rust"], top_k=2)


def test_ranking_asynchronously_does_not_block_the_event_loop(scripted):
    reranker, _ = scripted(LOGITS, pause_s=0.3)

    async def count_ticks():
        task = asyncio.create_task(reranker.arank(QUERY, list(LOGITS)))
        ticks = 0
        while not task.done():
            await asyncio.sleep(0.005)
            ticks += 1
        return ticks, await task

    ticks, ranking = asyncio.run(count_ticks())

    assert ticks > 10  # of 60 when nothing else runs
    assert indices(ranking) == [1, 3, 0, 4, 2]


def test_an_error_of_an_asynchronous_ranking_reaches_the_caller(bundled):
    with pytest.raises(InputError, match="`query` must not be blank"):
        asyncio.run(bundled.arank(" ", ["oil"]))


def test_a_ranking_is_a_sequence_of_hits(bundled):
    ranking = bundled.rank(QUERY, ["oil", "a chain slips when it is worn", "wax"])

    assert ranking[0].index == 1
    assert ranking[:2] == ranking.hits[:2]
    assert list(ranking) == list(ranking.hits)
    assert ranking[0] in ranking


def test_the_bundled_model_needs_no_argument_and_has_a_name(bundled):
    assert bundled.name == DEFAULT_RANKER
    assert bundled.device.type == "cpu"


def test_settings_say_what_was_given_as_json_values(tiny_folders):
    folder = tiny_folders["bert"]
    reranker = Reranker(folder, device=torch.device("cpu"), dtype=torch.float32, max_window_tokens=np.int64(64))

    settings = {"model": str(folder), "device": "cpu", "dtype": "float32", "max_window_tokens": 64}
    assert json.loads(json.dumps(reranker.settings)) == settings


def test_a_pickle_is_the_recipe_and_a_copy_the_same_model(tiny_folders):
    reranker = Reranker(tiny_folders["bert"], device="cpu", max_window_tokens=64)
    pickled = pickle.dumps(reranker)

    assert len(pickled) < 1000
    assert pickle.loads(pickled).rank(QUERY, list(LOGITS)) == reranker.rank(QUERY, list(LOGITS))
    assert copy.deepcopy(reranker) is reranker


def test_examples_are_cut_to_their_budget_and_reported(tiny_folders):
    shown = [Example("oil", true_labels=["wax " * 300], false_labels=["rust"])]
    free, limited = (
        Reranker(tiny_folders["bert"], device="cpu", plan="shared_query", max_example_tokens=limit)
        for limit in (None, 0)
    )

    cut = free.rank(QUERY, ["oil", "wax"], examples=shown)
    none = limited.rank(QUERY, ["oil", "wax"], examples=shown)

    assert [truncation.index for truncation in cut.truncated_examples] == [0]
    assert 0 < cut.truncated_examples[0].num_lost < 300
    assert none.hits == limited.rank(QUERY, ["oil", "wax"]).hits
    assert cut.hits != none.hits
    assert limited.settings["max_example_tokens"] == 0


def test_a_negative_budget_is_refused(tiny_folders):
    with pytest.raises(ConfigError, match="`max_example_tokens` must be at least 0, got -1"):
        Reranker(tiny_folders["bert"], device="cpu", max_example_tokens=-1)
