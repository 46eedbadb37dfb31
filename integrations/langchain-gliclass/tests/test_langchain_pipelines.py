"""In LangChain's own retrievers, pipelines and chains."""

import asyncio
import pickle

import pytest
from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_classic.retrievers.document_compressors import DocumentCompressorPipeline
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.language_models import FakeListChatModel
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import ConfigurableField, RunnableLambda, RunnablePassthrough
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_gliclass import GLiClassRerank, GLiClassRerankRetriever
from pydantic import ValidationError

from gliclass_rerank import InputError
from gliclass_rerank.testing import PASSAGES, QUERY, shared_reranker

OTHER = "when does the library open?"


def ids(documents):
    return [document.id for document in documents]


def best_passage():
    return PASSAGES[shared_reranker().rank(QUERY, PASSAGES[:5])[0].index]


def vector_store():
    store = InMemoryVectorStore(DeterministicFakeEmbedding(size=8))
    store.add_texts(PASSAGES[:5])
    return store.as_retriever(search_kwargs={"k": 5})


def compression(reranker, base):
    return ContextualCompressionRetriever(base_compressor=reranker, base_retriever=base)


def ours(reranker, base):
    return GLiClassRerankRetriever(reranker=reranker, base_retriever=base)


@pytest.fixture(params=[compression, ours])
def retriever_over(request):
    return request.param


def test_a_retriever_reranks(retriever_over, ready, base, found):
    assert retriever_over(ready(top_n=3), base).invoke(QUERY) == ready(top_n=3).rerank(found, QUERY)


async def test_asynchronously_too(retriever_over, ready, base, found):
    assert await retriever_over(ready(top_n=3), base).ainvoke(QUERY) == ready(top_n=3).rerank(found, QUERY)


def test_a_batch_gives_what_single_calls_give(retriever_over, ready, base):
    retriever = retriever_over(ready(top_n=3), base)
    expected = [retriever.invoke(query) for query in (QUERY, OTHER)]
    assert retriever.batch([QUERY, OTHER] * 2) == expected * 2


async def test_an_async_batch_gives_what_single_calls_give(retriever_over, ready, base):
    retriever = retriever_over(ready(top_n=3), base)
    expected = [retriever.invoke(query) for query in (QUERY, OTHER)]
    assert await retriever.abatch([QUERY, OTHER] * 2) == expected * 2


def test_one_retriever_serves_several_event_loops(retriever_over, ready, base):
    retriever = retriever_over(ready(), base)
    assert asyncio.run(retriever.ainvoke(QUERY)) == asyncio.run(retriever.ainvoke(QUERY))


def test_a_retriever_that_finds_nothing_gives_nothing(retriever_over, ready):
    assert retriever_over(ready(), RunnableLambda(lambda query: [])).invoke(QUERY) == []


def test_over_a_vector_store(retriever_over, ready):
    assert retriever_over(ready(top_n=1), vector_store()).invoke(QUERY)[0].page_content == best_passage()


def test_in_a_pipeline_of_compressors(ready, found):
    pipeline = DocumentCompressorPipeline(transformers=[ready(top_n=5), ready(query_prefix="bread: ", top_n=2)])
    expected = ready(query_prefix="bread: ", top_n=2).rerank(ready(top_n=5).rerank(found, QUERY), QUERY)
    assert pipeline.compress_documents(found, QUERY) == expected
    assert asyncio.run(pipeline.acompress_documents(found, QUERY)) == expected


def test_in_a_chain_with_a_lambda(ready, base, found):
    reranker = ready(top_n=2)
    step = RunnableLambda(
        lambda ask: reranker.rerank(ask["documents"], ask["question"]),
        lambda ask: reranker.arerank(ask["documents"], ask["question"]),
    )
    chain = {"documents": base, "question": RunnablePassthrough()} | step
    expected = reranker.rerank(found, QUERY)
    assert chain.invoke(QUERY) == expected
    assert asyncio.run(chain.ainvoke(QUERY)) == expected
    assert chain.batch([QUERY, QUERY]) == [expected, expected]


def test_in_front_of_a_chat_model(ready, base):
    retriever = ours(ready(top_n=1), base)
    prompt = ChatPromptTemplate.from_template("{context} -- {question}")
    context = retriever | (lambda documents: documents[0].page_content)
    chain = {"context": context, "question": RunnablePassthrough()} | prompt
    assert chain.invoke(QUERY).to_messages()[0].content == f"{best_passage()} -- {QUERY}"
    assert (chain | FakeListChatModel(responses=["Replace both."])).invoke(QUERY).content == "Replace both."


def test_top_n_of_the_call_wins_over_the_retrievers_which_wins_over_the_rerankers(ready, base):
    by_reranker = ours(ready(top_n=1), base)
    by_retriever = GLiClassRerankRetriever(reranker=ready(top_n=1), base_retriever=base, top_n=2)
    assert [len(retriever.invoke(QUERY)) for retriever in (by_reranker, by_retriever)] == [1, 2]
    assert [len(retriever.invoke(QUERY, top_n=3)) for retriever in (by_reranker, by_retriever)] == [3, 3]
    assert len(asyncio.run(by_retriever.ainvoke(QUERY, top_n=3))) == 3
    assert [len(documents) for documents in by_retriever.batch([QUERY, OTHER], top_n=3)] == [3, 3]


def test_a_threshold_of_the_call_wins(ready, base):
    retriever = ours(ready(), base)
    third = retriever.invoke(QUERY)[2].metadata["relevance_score"]
    assert len(retriever.invoke(QUERY, score_threshold=third)) == 3
    assert len(asyncio.run(retriever.ainvoke(QUERY, score_threshold=third))) == 3


def test_top_n_can_be_configured_at_run_time(ready, base):
    retriever = ours(ready(), base).configurable_fields(top_n=ConfigurableField(id="top_n"))
    assert len(retriever.invoke(QUERY, config={"configurable": {"top_n": 2}})) == 2
    assert len(retriever.invoke(QUERY)) == 5


@pytest.mark.parametrize("settings", [{"top_n": 0}, {"top_n": True}, {"topn": 3}, {"reranker": 3}])
def test_a_wrong_setting_of_the_retriever_is_refused(base, settings):
    with pytest.raises(ValidationError, match=next(iter(settings))[:4]):
        GLiClassRerankRetriever(base_retriever=base, **settings)


def test_a_wrong_argument_of_a_call_is_refused(ready, base):
    with pytest.raises(InputError, match="at least 1, got 0"):
        ours(ready(), base).invoke(QUERY, top_n=0)
    with pytest.raises(TypeError, match="topn"):
        ours(ready(), base).invoke(QUERY, topn=3)


def test_the_retriever_ranks_with_the_bundled_model_by_default(base, ready, found):
    assert ids(GLiClassRerankRetriever(base_retriever=base).invoke(QUERY)) == ids(ready().rerank(found, QUERY))


def test_a_pickled_retriever_ranks_as_before(ready):
    retriever = ours(ready(top_n=3), vector_store())
    assert pickle.loads(pickle.dumps(retriever)).invoke(QUERY) == retriever.invoke(QUERY)


def test_a_missing_model_does_not_stop_a_chain_that_may_keep_the_order(base, found):
    retriever = ours(GLiClassRerank(model="./no-such-folder", on_error="keep_order", top_n=2), base)
    ranked = retriever.invoke(QUERY)
    assert ids(ranked) == ids(found)[:2]
    assert all("no-such-folder" in document.metadata["rerank_error"] for document in ranked)
