"""`GLiClassContextPruner` in Haystack's own pipelines."""

import asyncio
import copy

import pytest
from haystack import Document, Pipeline
from haystack_integrations.components.rankers.gliclass import GLiClassContextPruner, GLiClassRanker

from gliclass_rerank import ConfigError
from gliclass_rerank.testing import shared_reranker

QUERY = "why does my chain skip when I push hard?"
CHAIN = "A worn chain jumps over the teeth of the sprockets when you push hard on the pedals."
TEXT = f"Bread dough rises faster in a warm kitchen. {CHAIN} Invoices are sent by mail."


@pytest.fixture
def documents():
    return [
        Document(content="Bread dough rises faster in a warm kitchen.", score=0.5),
        Document(content=TEXT, score=0.7, meta={"nested": {"tags": ["bicycle"]}}),
        Document(content=None),
    ]


def test_copies_have_what_bears_on_the_query_and_say_what_was_cut(documents):
    before = copy.deepcopy(documents)
    pruner = GLiClassContextPruner(reranker=shared_reranker(), min_sentence_score=0.3)

    (pruned,) = pruner.run(query=QUERY, documents=documents)["documents"]

    assert (pruned.content, pruned.score, pruned.id) == (CHAIN, 0.7, documents[1].id)
    ((start, end),) = pruned.meta["kept_spans"]
    assert TEXT[start:end] == CHAIN
    assert pruned.meta["pruned_chars"] == len(TEXT) - len(CHAIN)
    assert documents == before
    assert asyncio.run(pruner.run_async(query=QUERY, documents=documents))["documents"] == [pruned]


def test_a_saved_pipeline_ranks_and_prunes(documents):
    pipeline = Pipeline()
    settings = {"model": "minilm-l6-v1", "backend": "torch"}
    pipeline.add_component("ranker", GLiClassRanker(reranker=settings, top_k=2))
    pipeline.add_component("pruner", GLiClassContextPruner(reranker=settings, min_sentence_score=0.3))
    pipeline.connect("ranker.documents", "pruner.documents")

    loaded = Pipeline.loads(pipeline.dumps())
    found = loaded.run({"ranker": {"query": QUERY, "documents": documents}, "pruner": {"query": QUERY}})

    assert [document.content for document in found["pruner"]["documents"]] == [CHAIN]
    assert loaded.to_dict() == pipeline.to_dict()


@pytest.mark.parametrize("settings", [{"min_sentence_score": 2}, {"gap": 5}, {"on_error": "keep_order"}])
def test_a_wrong_setting_is_refused(settings):
    with pytest.raises(ConfigError):
        GLiClassContextPruner(**settings)


def test_settings_are_fixed():
    pruner = GLiClassContextPruner()
    with pytest.raises(AttributeError, match="`gap` is fixed"):
        pruner.gap = "..."
