"""A server that loads a reranker with a store before it forks its workers."""

import os

import pytest
from forked import Child

from gliclass_rerank import Reranker

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]
QUERY, PASSAGES = "how to stop a slipping chain", ["Replace the chain.", "Ring the bell.", "Oil the lock."]


def test_workers_rank_with_examples_and_learn_from_feedback(tiny_folders, tmp_path):
    reranker = Reranker(
        tiny_folders["bert"], device="cpu", example_store=tmp_path / "judged.db", min_example_similarity=-1
    )
    reranker.feedback("why does my chain slip?", PASSAGES[:1])
    before = reranker.rank(QUERY, PASSAGES)
    assert len(before.examples) == 1

    def serve(name):
        ranking = reranker.rank(QUERY, PASSAGES)
        assert ranking == before or len(ranking.examples) > 1  # the other worker may have been quicker
        for number in range(5):
            reranker.feedback(f"{name} asks {number}", PASSAGES[:1], PASSAGES[1:2])
            reranker.feedback("what both ask", [f"{name} {number}"])
        return [len(ranking), len(reranker.rank(f"{name} asks 3", PASSAGES[2:]).examples)]

    workers = [Child(lambda name=name: serve(name)) for name in ("one", "two")]

    assert [worker.result(120) for worker in workers] == [["done", [3, 3]]] * 2
    store = reranker.example_store
    texts = {stored.example.text: stored.example for stored in store}
    assert texts.keys() >= {f"{name} asks {number}" for name in ("one", "two") for number in range(5)}
    assert set(texts["what both ask"].true_labels) == {
        f"{name} {number}" for name in ("one", "two") for number in range(5)
    }
    assert len(reranker.rank(QUERY, PASSAGES[2:]).examples) == 3
    store.close()
