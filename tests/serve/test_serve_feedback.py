"""Clicks and ratings: each answer has an id of its own in the log, and takes signals under it."""

import pytest
from running import running

from gliclass_rerank import Reranker
from gliclass_rerank.serve.models import ServedModel

BODY = {"query": "chain slips", "documents": ["oil the chain", "brake", "worn cog"]}


@pytest.fixture
def logging_reranker(tiny_folders, tmp_path):
    return Reranker(tiny_folders["bert"], device="cpu", log=tmp_path / "log.db")


def test_each_answer_is_logged_as_it_was_shown_and_takes_clicks(logging_reranker):
    with running(ServedModel("tiny", logging_reranker)) as server:
        whole, best = server.post("/v2/rerank", BODY), server.post("/v2/rerank", {**BODY, "top_n": 1})
        clicked = server.post("/clicks", {"id": whole.body["id"], "indices": [2]})
        rated = server.post("/rating", {"id": best.body["id"], "rating": 1})

    assert (clicked.body, rated.body) == ({"id": whole.body["id"]}, {"id": best.body["id"]})
    assert best.headers["x-cache"] == "hit"
    log = logging_reranker.log
    for answer in (whole, best):
        assert answer.headers["x-ranking-id"] == answer.body["id"]
        entry = log.ranking(answer.body["id"])
        assert [passage.index for passage in entry.shown] == [hit["index"] for hit in answer.body["results"]]
        assert [passage.text for passage in entry.shown] == [
            BODY["documents"][hit["index"]] for hit in answer.body["results"]
        ]
    assert sorted(signal.kind for signal in log.signals()) == ["click", "rating"]


def test_answers_without_an_id_in_their_shape_have_it_in_a_header(logging_reranker):
    with running(ServedModel("tiny", logging_reranker)) as server:
        answer = server.post("/tei/rerank", {"query": "chain", "texts": ["oil"]})
        assert server.post("/clicks", {"id": answer.headers["x-ranking-id"], "indices": [0]}).status == 200


@pytest.mark.parametrize(
    ("path", "fields", "expected"),
    [
        ("/clicks", {"id": "unknown", "indices": [0]}, "unknown"),
        ("/clicks", {"id": "unknown", "indices": "0"}, "`indices`: input should be a valid list, got '0'"),
        ("/rating", {"id": "unknown", "rating": 7}, "`rating`: input should be less than or equal to 1, got 7"),
        ("/rating", {"rating": 1}, "`id` is missing"),
    ],
)
def test_bad_signals_are_refused_in_one_sentence(logging_reranker, path, fields, expected):
    with running(ServedModel("tiny", logging_reranker)) as server:
        answer = server.post(path, fields)
    assert answer.status == 400
    assert expected in answer.body["error"]["message"]


def test_without_a_log_the_answer_says_how_to_get_one(server):
    answer = server.post("/clicks", {"id": "a", "indices": [0]})
    assert answer.body["error"]["message"] == "`/clicks` needs a log; start the server with `--log FILE`"
    assert "x-ranking-id" not in server.post("/v2/rerank", BODY).headers
