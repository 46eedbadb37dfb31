"""In Haystack's real pipelines, sync and async."""

import asyncio
import copy
import logging

import pytest
from haystack import Document, Pipeline, tracing
from haystack.components.builders import PromptBuilder
from haystack.components.retrievers.in_memory import InMemoryBM25Retriever, InMemoryEmbeddingRetriever
from haystack.core.errors import PipelineRuntimeError
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.tracing.logging_tracer import LoggingTracer
from haystack_integrations.components.rankers.gliclass import GLiClassRanker

from gliclass_rerank.testing import PASSAGES, QUERY, shared_reranker

if hasattr(Pipeline, "run_async"):
    AsyncPipeline = Pipeline
else:  # Haystack 2
    from haystack import AsyncPipeline


@pytest.fixture
def store():
    store = InMemoryDocumentStore()
    store.write_documents(
        [
            Document(content=passage, meta={"place": place}, embedding=[1.0, float(place)])
            for place, passage in enumerate(dict.fromkeys(passage for passage in PASSAGES if passage.strip()))
        ]
    )
    return store


def reranking(store, kind=Pipeline, **settings):
    pipeline = kind()
    pipeline.add_component("retriever", InMemoryBM25Retriever(store, top_k=6, scale_score=True))
    pipeline.add_component("ranker", GLiClassRanker(**{"reranker": shared_reranker(), **settings}))
    pipeline.connect("retriever", "ranker")
    return pipeline


def with_two_retrievers(store, kind=Pipeline, **settings):
    pipeline = reranking(store, kind, **settings)
    pipeline.add_component("embedding_retriever", InMemoryEmbeddingRetriever(store, top_k=6))
    pipeline.connect("embedding_retriever.documents", "ranker.documents")
    return pipeline


def finish(pipeline, data, mode, **options):
    if mode == "sync":
        return pipeline.run(data, **options)
    return asyncio.run(pipeline.run_async(data, **options))


@pytest.fixture(params=["sync", "async"])
def mode(request):
    return request.param


@pytest.fixture
def kind(mode):
    return Pipeline if mode == "sync" else AsyncPipeline


def test_it_reranks_what_a_retriever_found(store, kind, mode):
    outputs = finish(reranking(store, kind), {"query": QUERY}, mode, include_outputs_from={"retriever"})
    found, best = outputs["retriever"]["documents"], outputs["ranker"]["documents"]
    core = shared_reranker().rank(QUERY, [document.content for document in found])
    assert [document.id for document in best] == [found[hit.index].id for hit in core]
    assert [document.score for document in best] == [hit.score for hit in core]
    assert [document.meta for document in best] == [found[hit.index].meta for hit in core]


def test_the_cut_off_and_the_threshold_of_a_call_come_with_the_data(store, kind, mode):
    everything = finish(reranking(store, kind), {"query": QUERY}, mode)["ranker"]["documents"]
    limits = {"ranker": {"query": QUERY, "top_k": 4, "score_threshold": everything[1].score}}
    best = finish(reranking(store, kind, top_k=1), {"retriever": {"query": QUERY}, **limits}, mode)["ranker"]
    assert best["documents"] == everything[:2]


def test_two_retrievers_feed_one_input_and_each_document_comes_out_once(store, kind, mode):
    data = {"query": QUERY, "query_embedding": [1.0, 1.0]}
    outputs = finish(
        with_two_retrievers(store, kind, keep_retrieval_score=True),
        data,
        mode,
        include_outputs_from={"retriever", "embedding_retriever"},
    )
    found = outputs["retriever"]["documents"] + outputs["embedding_retriever"]["documents"]
    best = outputs["ranker"]["documents"]
    scores = {document.id: [] for document in found}
    for document in found:
        scores[document.id].append(document.score)
    assert any(len(values) == 2 for values in scores.values())
    assert sorted(document.id for document in best) == sorted(scores)
    assert all(document.meta["retrieval_score"] == max(scores[document.id]) for document in best)


def test_documents_in_the_store_are_unchanged(store):
    before = copy.deepcopy(store.filter_documents())
    reranking(store, keep_retrieval_score=True).run({"query": QUERY})
    assert store.filter_documents() == before


def test_a_saved_pipeline_loads_and_ranks_as_before(store, mode, kind):
    pipeline = reranking(store, kind, top_k=3, fusion="weighted")
    expected = finish(pipeline, {"query": QUERY}, mode)["ranker"]["documents"]
    text = pipeline.dumps()
    loaded = kind.loads(text)
    assert loaded.dumps() == text
    loaded.get_component("retriever").document_store = store  # an in-memory store is saved without its documents
    assert finish(loaded, {"query": QUERY}, mode)["ranker"]["documents"] == expected


def test_a_prompt_is_built_from_the_best(store):
    pipeline = reranking(store, top_k=1)
    template = "{% for document in documents %}{{ document.content }}{% endfor %} {{ question }}"
    pipeline.add_component("prompt", PromptBuilder(template, required_variables=["documents", "question"]))
    pipeline.connect("ranker.documents", "prompt.documents")
    best = reranking(store).run({"query": QUERY})["ranker"]["documents"][0]
    data = {"retriever": {"query": QUERY}, "ranker": {"query": QUERY}, "prompt": {"question": QUERY}}
    assert pipeline.run(data)["prompt"]["prompt"] == f"{best.content} {QUERY}"


def test_nothing_found_is_nothing_ranked(kind, mode):
    outputs = finish(reranking(InMemoryDocumentStore(), kind), {"query": QUERY}, mode)
    assert outputs == {"ranker": {"documents": []}}


def test_a_missing_model_stops_the_pipeline_by_default(store, kind, mode):
    pipeline = reranking(store, kind, reranker=None, model="./no-such-model")
    with pytest.raises(Exception, match="no-such-model"):
        finish(pipeline, {"query": QUERY}, mode)


def test_a_missing_model_keeps_the_retrievers_documents_on_request(store, kind, mode):
    pipeline = reranking(store, kind, reranker=None, model="./no-such-model", on_error="keep_order", top_k=3)
    outputs = finish(pipeline, {"query": QUERY}, mode, include_outputs_from={"retriever"})
    found, kept = outputs["retriever"]["documents"], outputs["ranker"]["documents"]
    assert [(document.id, document.score) for document in kept] == [
        (document.id, document.score) for document in found[:3]
    ]
    assert all(document.meta["rerank_error"].startswith("CheckpointError: ") for document in kept)
    assert all("rerank_error" not in document.meta for document in found)


def test_a_wrong_argument_stops_the_pipeline_and_says_why(store, kind, mode):
    data = {"retriever": {"query": QUERY}, "ranker": {"query": QUERY, "top_k": 0}}
    with pytest.raises(PipelineRuntimeError, match=r"`top_k` must be .*, got 0"):
        finish(reranking(store, kind, on_error="keep_order"), data, mode)


def test_concurrent_runs_of_one_pipeline_agree(store):
    pipeline = reranking(store, AsyncPipeline, reranker={"device": "cpu"})

    async def six():
        return await asyncio.gather(*(pipeline.run_async({"query": QUERY}) for _ in range(6)))

    results = asyncio.run(six())
    assert all(result == results[0] for result in results)


def test_tracing_shows_the_ranker_and_what_it_returned(store, caplog, monkeypatch):
    monkeypatch.setattr(tracing.tracer, "is_content_tracing_enabled", True)
    tracing.enable_tracing(LoggingTracer())
    try:
        with caplog.at_level(logging.DEBUG, logger="haystack.tracing.logging_tracer"):
            reranking(store, top_k=1, keep_retrieval_score=True).run({"query": QUERY})
    finally:
        tracing.disable_tracing()
    assert "haystack.component.name=ranker" in caplog.text
    assert "haystack.component.type=GLiClassRanker" in caplog.text
    assert "retrieval_score" in caplog.text


@pytest.mark.skipif(not hasattr(Pipeline, "close"), reason="Haystack 2 closes no components")
def test_closing_the_pipeline_closes_the_ranker_and_it_still_works(store, mode):
    pipeline = reranking(store, reranker=None)
    before = pipeline.run({"query": QUERY})
    if mode == "sync":
        pipeline.close()
    else:
        asyncio.run(pipeline.close_async())
    assert pipeline.run({"query": QUERY}) == before
