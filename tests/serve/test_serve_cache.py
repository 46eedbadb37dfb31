"""The cache of scores: what is found again, what is not, and how much is kept."""

import pytest
from running import running

from gliclass_rerank import Reranker
from gliclass_rerank.examples import ExampleStore
from gliclass_rerank.serve.cache import ScoreCache
from gliclass_rerank.serve.core import Scores
from gliclass_rerank.serve.models import ServedModel
from gliclass_rerank.types import Hit, Truncation


def scores(count=3, truncated=()):
    return Scores(tuple(Hit(index, index / 3, index / 7) for index in range(count)), truncated, None, num_tokens=5)


def test_scores_come_back_as_they_were():
    cache, kept = ScoreCache(10_000), scores(truncated=(Truncation(1, 9, 2),))
    cache.put(b"a", kept)
    assert cache.get(b"a") == kept
    assert cache.get(b"b") is None


def test_the_least_recently_used_scores_go_when_memory_is_full():
    cache = ScoreCache(2500)
    cache.put(b"a", scores())
    cache.put(b"b", scores())
    cache.get(b"a")
    cache.put(b"c", scores())
    assert [key for key in (b"a", b"b", b"c") if cache.get(key)] == [b"a", b"c"]
    assert 0 < cache.num_bytes <= 2500


def test_scores_larger_than_the_cache_are_not_kept():
    cache = ScoreCache(2500)
    cache.put(b"a", scores())
    cache.put(b"b", scores(1000))
    assert cache.get(b"a") is not None
    assert cache.get(b"b") is None


def ask(server, **more):
    answer = server.post("/v2/rerank", {"query": "chain slips", "documents": ["oil the chain", "brake"], **more})
    assert answer.status == 200
    return answer


def test_a_repeated_request_is_answered_from_the_cache_with_the_same_scores(reranker):
    with running(ServedModel("tiny", reranker)) as server:
        first, again, best = ask(server), ask(server), ask(server, top_n=1)
        other_order = ask(server, documents=["brake", "oil the chain"])
        other_query = ask(server, query="chain slip")

    caches = [answer.headers["x-cache"] for answer in (first, again, best, other_order, other_query)]
    assert caches == ["miss", "hit", "hit", "miss", "miss"]
    assert again.body["results"] == first.body["results"]
    assert best.body["results"] == first.body["results"][:1]


def test_texts_that_only_join_alike_are_different_requests(reranker):
    model = ServedModel("tiny", reranker)
    with running(model) as server:
        ask(server, documents=["ab", "c"])
        assert ask(server, documents=["a", "bc"]).headers["x-cache"] == "miss"


def test_without_memory_nothing_is_cached(reranker):
    with running(ServedModel("tiny", reranker), cache_bytes=0) as server:
        assert [ask(server).headers["x-cache"] for _ in range(2)] == ["miss", "miss"]


def test_models_do_not_share_scores(server):
    ask(server, model="tiny")
    assert ask(server, model="other").headers["x-cache"] == "miss"


class WordEncoder:
    """Vectors of two letters' counts, so that the store needs no model."""

    name = fingerprint = "letters"

    def encode(self, texts):
        import numpy as np

        rows = np.array([[1.0 + text.count("c"), 1.0 + text.count("b")] for text in texts], dtype=np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture
def learning(tiny_folders):
    with ExampleStore(encoder=WordEncoder()) as store:
        yield Reranker(tiny_folders["bert"], device="cpu", example_store=store)


def test_feedback_is_stored_and_makes_cached_scores_stale(learning):
    with running(ServedModel("tiny", learning)) as server:
        before = [ask(server), ask(server)]
        learned = server.post(
            "/feedback", {"query": "the chain", "relevant": ["oil"], "irrelevant": None, "metadata": {"user": "me"}}
        )
        after = ask(server)

    assert [answer.headers["x-cache"] for answer in (*before, after)] == ["miss", "hit", "miss"]
    assert learning.example_store.get(learned.body["id"]).metadata == {"user": "me"}
    assert after.body["results"] != before[0].body["results"]


def test_bad_feedback_is_refused_in_one_sentence(learning):
    with running(ServedModel("tiny", learning)) as server:
        answer = server.post("/feedback", {"query": "chain", "relevant": ["oil"], "irrelevant": ["oil"]})
        assert answer.status == 400
        assert answer.body["error"]["message"].startswith("a passage must be either relevant or irrelevant")
        assert len(learning.example_store) == 0
