"""Scores do not depend on who else asks: what a busy server answers is what the library computes alone."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from running import running
from tiny_checkpoints import WORDS

from gliclass_rerank import Reranker
from gliclass_rerank.runtime import export
from gliclass_rerank.serve.models import ServedModel

NUM_CALLERS, NUM_REQUESTS = 8, 24
# One step of the quantised activations of a tiny model is larger by far.
INT8_BOUND = 1e-5


def requests():
    """Requests of 1 to 12 passages of 0 to 60 words, all different."""
    return [
        {
            "query": " ".join(WORDS[number % 40 : number % 40 + 1 + number % 5]),
            "documents": [
                " ".join((WORDS * 2)[start : start + (7 * start + number) % 61]) for start in range(1 + number % 12)
            ],
        }
        for number in range(NUM_REQUESTS)
    ]


def answers_under_load(reranker, **settings):
    with (
        running(ServedModel("tiny", reranker), cache_bytes=0, **settings) as server,
        ThreadPoolExecutor(NUM_CALLERS) as pool,
    ):
        answers = list(pool.map(lambda body: server.post("/v2/rerank", body), requests()))
    assert {answer.status for answer in answers} == {200}
    return [[(each["index"], each["relevance_score"]) for each in answer.body["results"]] for answer in answers]


def answers_alone(reranker):
    rankings = [reranker.rank(body["query"], body["documents"]) for body in requests()]
    return [[(hit.index, hit.score) for hit in ranking] for ranking in rankings]


@pytest.mark.parametrize("settings", [{"slots": 1, "max_age": 0.0}, {"slots": 4, "gather_tokens": 64}])
def test_scores_in_float32_are_the_same_bits_under_load_and_alone(reranker, settings):
    assert answers_under_load(reranker, **settings) == answers_alone(reranker)


def test_scores_in_int8_stay_within_a_bound_of_those_alone(tiny_folders, monkeypatch, tmp_path):
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(export, "default_cache_folder", lambda: tmp_path)
    reranker = Reranker(tiny_folders["bert"], device="cpu", backend="onnx", dtype="int8", threads=1)

    for loaded, alone in zip(answers_under_load(reranker), answers_alone(reranker), strict=True):
        assert dict(loaded) == pytest.approx(dict(alone), abs=INT8_BOUND)


def test_windows_of_several_callers_share_passes_within_the_joint_plans_tolerance(tiny_folders):
    reranker = Reranker(tiny_folders["modernbert"], device="cpu")
    assert reranker.plan == "joint"

    for loaded, alone in zip(answers_under_load(reranker, slots=1), answers_alone(reranker), strict=True):
        assert dict(loaded) == pytest.approx(dict(alone), abs=1e-5)
