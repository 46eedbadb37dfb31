"""The step between a retriever and a reader: its policies. What adapters share is in the conformance suite."""

import copy
import dataclasses
import inspect
import pickle
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

import gliclass_rerank.reranker
from gliclass_rerank import (
    BackendError,
    CheckpointError,
    ConfigError,
    Example,
    InputError,
    Reranker,
    RerankStage,
    WindowOverflowError,
)
from gliclass_rerank.settings import RerankerSettings

QUERY = "chain slip"
LOGITS = {"oil": 0.5, "wax": 2.0, "rust": -1.0, "hill": 0.0}


@pytest.fixture
def reranker(scripted):
    return scripted(LOGITS)[0]


def indices(ranking):
    return [hit.index for hit in ranking]


def test_the_model_is_loaded_once_however_many_threads_come_first(monkeypatch, tiny_folders):
    loads, together = [], threading.Barrier(8)
    real = gliclass_rerank.reranker.Reranker

    def counted(**settings):
        loads.append(settings)
        return real(**settings)

    monkeypatch.setattr(gliclass_rerank.reranker, "Reranker", counted)
    stage = RerankStage(str(tiny_folders["bert"]), device="cpu")

    def use(_):
        together.wait()
        stage.warm_up()
        return indices(stage.run(QUERY, ["oil", "wax"]))

    with ThreadPoolExecutor(8) as threads:
        assert len({tuple(order) for order in threads.map(use, range(8))}) == 1
    assert loads == [{"model": str(tiny_folders["bert"]), "device": "cpu"}]


def test_nothing_heavy_is_imported_until_the_model_is_needed():
    code = (
        "import sys; from gliclass_rerank import RerankStage; RerankStage(top_k=3); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_misspelt_setting_is_refused_before_anything_loads():
    with pytest.raises(ConfigError, match="`modell`"):
        RerankStage(reranker={"modell": "x"})
    names = {field.name for field in dataclasses.fields(RerankerSettings)}
    assert set(inspect.signature(Reranker).parameters) == names <= set(inspect.signature(RerankStage).parameters)


def test_close_drops_the_model_and_the_next_use_loads_it_again(tiny_folders):
    stage = RerankStage(str(tiny_folders["bert"]), device="cpu")
    before = stage.run(QUERY, ["oil", "wax"])
    stage.close()

    assert stage.run(QUERY, ["oil", "wax"]) == before


def test_former_names_in_the_settings_of_a_reranker_work_and_are_told_of(reranker):
    with pytest.warns(DeprecationWarning, match="`allow_equal_queries` is called `allow_same_text` now") as warned:
        stage = RerankStage(reranker={"device": "cpu", "allow_equal_queries": False})
    assert warned[0].filename == __file__
    assert pickle.loads(pickle.dumps(stage)).__getstate__()["_loading"] == {"device": "cpu", "allow_same_text": False}
    with pytest.raises(ConfigError, match="`allow_equal_queries` is called `allow_same_text` now; pass one of them"):
        RerankStage(reranker={"allow_equal_queries": False, "allow_same_text": False})


def test_close_leaves_a_given_reranker_to_its_other_users(reranker):
    stage = RerankStage(reranker=reranker)
    stage.close()

    assert indices(stage.run(QUERY, list(LOGITS))) == [1, 0, 3, 2]


def test_copies_share_the_model(tiny_folders):
    stage = RerankStage(reranker=Reranker(tiny_folders["bert"], device="cpu"))

    assert copy.deepcopy(stage).run(QUERY, ["oil", "wax"]) == stage.run(QUERY, ["oil", "wax"])


def test_a_pickle_carries_settings_and_no_weights(tiny_folders):
    stage = RerankStage(reranker=Reranker(tiny_folders["bert"], device="cpu"), top_k=1)
    pickled = pickle.dumps(stage)

    assert len(pickled) < 2000
    assert pickle.loads(pickled).run(QUERY, ["oil", "wax"]) == stage.run(QUERY, ["oil", "wax"])


def test_blank_passages_come_last_and_never_reach_the_model(scripted):
    reranker, backend = scripted(LOGITS)
    ranking = RerankStage(reranker=reranker).run(QUERY, ["", "rust", " \n", "wax"])

    assert indices(ranking) == [3, 1, 0, 2]
    assert [hit.score for hit in ranking[2:]] == [0.0, 0.0]
    assert len(backend.scored) == 2


def test_only_blank_passages_need_no_model():
    ranking = RerankStage("./no-such-folder").run(QUERY, ["", " "], [2.0, 1.0], top_k=1)

    assert [(hit.index, hit.score, hit.retrieval_score) for hit in ranking] == [(0, 0.0, 2.0)]


def test_the_threshold_reads_the_rerankers_score_also_when_fused(reranker):
    stage = RerankStage(reranker=reranker, fusion="reciprocal_rank", fusion_weight=0.1, score_threshold=0.5)

    ranking = stage.run(QUERY, list(LOGITS))

    assert sorted(indices(ranking)) == [0, 1, 3]
    assert [hit.score for hit in ranking] == sorted((hit.score for hit in ranking), reverse=True)


def test_weighted_fusion_mixes_scores(reranker):
    stage = RerankStage(reranker=reranker, fusion="weighted", fusion_weight=0.5)

    by_index = {hit.index: hit for hit in stage.run(QUERY, list(LOGITS), [10.0, 0.0, 5.0, 2.5])}

    assert by_index[0].score == pytest.approx((by_index[0].rerank_score + 1.0) / 2)
    assert by_index[1].score == pytest.approx(by_index[1].rerank_score / 2)


def test_weighted_fusion_misses_a_retrieval_score(reranker):
    stage = RerankStage(reranker=reranker, fusion="weighted", on_error="keep_order")

    with pytest.raises(InputError, match="got None at 1"):
        stage.run(QUERY, ["oil", "wax"], [1.0, None])


@pytest.mark.parametrize("score", [float("nan"), float("inf"), np.float32("nan")])
def test_a_score_that_is_no_number_counts_as_none(reranker, score):
    assert RerankStage(reranker=reranker).run(QUERY, ["oil"], [score])[0].retrieval_score is None
    with pytest.raises(InputError, match=re.escape(f"a finite number, got {score!r} at 0")):
        RerankStage(reranker=reranker, fusion="weighted").run(QUERY, ["oil"], [score])


def test_warming_up_leaves_a_failure_to_the_run_that_keeps_the_order():
    stage = RerankStage("./no-such-folder", on_error="keep_order")
    stage.warm_up()

    assert "no-such-folder" in stage.run(QUERY, ["oil"]).error


def test_settings_of_a_reranker_may_hold_paths_and_torch_values(tiny_folders):
    settings = {"model": tiny_folders["bert"], "device": torch.device("cpu"), "dtype": torch.float32}

    assert len(RerankStage(reranker=settings).run(QUERY, ["oil"])) == 1


def test_a_query_that_outgrows_the_window_is_a_failure_of_the_step(tiny_folders):
    long_query = "chain " * 400
    settings = {"model": str(tiny_folders["bert"]), "device": "cpu", "max_window_tokens": 64, "long_query": "error"}
    with pytest.raises(WindowOverflowError):
        RerankStage(reranker=settings).run(long_query, ["oil"])

    kept = RerankStage(reranker=settings, on_error="keep_order", score_threshold=0.9).run(
        long_query, ["oil", "wax"], [0.3, 0.2]
    )

    assert [(hit.index, hit.score, hit.retrieval_score) for hit in kept] == [(0, None, 0.3), (1, None, 0.2)]
    assert kept.error.startswith("WindowOverflowError: ")


def test_a_failing_forward_pass_keeps_the_order(reranker, monkeypatch):
    def broken(*args, **options):
        raise BackendError("the device is gone")

    monkeypatch.setattr(reranker, "rank", broken)

    assert RerankStage(reranker=reranker, on_error="keep_order").run(QUERY, ["oil"]).error == (
        "BackendError: the device is gone"
    )
    with pytest.raises(BackendError, match="gone"):
        RerankStage(reranker=reranker).run(QUERY, ["oil"])


def test_a_missing_checkpoint_is_raised_by_default():
    with pytest.raises(CheckpointError, match="no-such-folder"):
        RerankStage("./no-such-folder").warm_up()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("", ["a"]), "`query` must not be blank, got ''"),
        ((None, ["a"]), "`query` must be a string, got None"),
        ((QUERY, "oil"), "`passages` must be a list of strings, got 'oil'"),
        ((QUERY, ["a"], [1.0, 2.0]), "each of the 1 passages, got 2"),
        ((QUERY, ["a"], ["high"]), r"`retrieval_scores\[0\]` must be a number, got 'high'"),
    ],
)
def test_wrong_arguments_are_raised_whatever_the_error_policy(reranker, arguments, message):
    with pytest.raises(InputError, match=message):
        RerankStage(reranker=reranker, on_error="keep_order").run(*arguments)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"top_k": 0}, "`top_k` must be a whole number of at least 1, got 0"),
        ({"score_threshold": 1.5}, "`score_threshold` must be between 0 and 1, got 1.5"),
        ({"fusion_weight": "half"}, "`fusion_weight` must be between 0 and 1, got 'half'"),
        ({"fusion": "sum"}, "`fusion` must be one of .*, got 'sum'"),
        ({"on_error": "ignore"}, "`on_error` must be one of .*, got 'ignore'"),
        ({"query_prefix": 3}, "`query_prefix` must be a string, got 3"),
        ({"examples": "none"}, "`examples` must be a list of examples, got 'none'"),
        ({"examples": 5}, "`examples` must be a list of examples, got 5"),
        ({"examples": [3]}, "an example must be"),
        ({"reranker": 3}, "`reranker` must be a `Reranker` or its settings, got 3"),
        ({"reranker": {}, "device": "cpu"}, "pass either `reranker` or `device`, not both"),
    ],
)
def test_wrong_settings_are_refused_at_once(settings, message):
    with pytest.raises(ConfigError, match=message):
        RerankStage(**settings)


def test_notes_hold_what_was_asked_for(reranker):
    plain, full = (
        RerankStage(reranker=reranker),
        RerankStage(reranker=reranker, fusion="reciprocal_rank", keep_retrieval_score=True, report_truncation=True),
    )
    for stage, keys in ((plain, set()), (full, {"retrieval_score", "rerank_score"})):
        ranking = stage.run(QUERY, list(LOGITS), [4, 3, 2, 1])
        assert set(stage.notes(ranking[0], ranking)) == keys


def test_an_example_goes_through_json_values():
    example = Example("loose spoke", ("torque wrench",), ("bread", "oil"))

    assert Example.of(example.to_dict()) == example
    assert example.to_dict() == {
        "text": "loose spoke",
        "true_labels": ["torque wrench"],
        "false_labels": ["bread", "oil"],
    }
