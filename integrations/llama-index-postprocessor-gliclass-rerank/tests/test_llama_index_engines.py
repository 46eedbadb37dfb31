"""Inside LlamaIndex's own retrievers, query engines and evaluator, synchronously and asynchronously."""

import asyncio

import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.callbacks import CallbackManager
from llama_index.core.chat_engine import ContextChatEngine
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.evaluation import RetrieverEvaluator
from llama_index.core.llms import MockLLM
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import NodeWithScore, QueryBundle
from llama_index.retrievers.bm25 import BM25Retriever


@pytest.fixture
def retriever(nodes):
    """BM25 puts the bread first for this query, because only that text shares a word with it."""
    return BM25Retriever.from_defaults(nodes=[found.node for found in nodes], similarity_top_k=3)


@pytest.fixture(params=["sync", "async"])
def ask(request):
    """Ask a query engine either way."""
    if request.param == "sync":
        return lambda engine, query: engine.query(query)
    return lambda engine, query: asyncio.run(engine.aquery(query))


def answered_from(response):
    return [found.node.node_id for found in response.source_nodes]


def test_in_a_query_engine_over_bm25(adapter, retriever, ask):
    engine = RetrieverQueryEngine.from_args(
        retriever, llm=MockLLM(), node_postprocessors=[adapter(top_n=2, keep_retrieval_score=True)]
    )
    response = ask(engine, "why does my worn drivetrain skip in a warm kitchen?")
    assert len(response.source_nodes) == 2
    assert "retrieval_score" in response.source_nodes[0].node.metadata
    assert "retrieval_score" not in response.response


def test_in_the_query_engine_of_a_vector_store_index(adapter, nodes, query, ask):
    index = VectorStoreIndex([found.node for found in nodes], embed_model=MockEmbedding(embed_dim=8))
    engine = index.as_query_engine(llm=MockLLM(), similarity_top_k=3, node_postprocessors=[adapter(top_n=1)])
    response = ask(engine, query)
    assert answered_from(response) == ["node-2"]
    assert nodes[2].node.text in response.response
    assert nodes[1].node.text not in response.response


def test_the_index_keeps_its_nodes(adapter, nodes, query, ask):
    index = VectorStoreIndex([found.node for found in nodes], embed_model=MockEmbedding(embed_dim=8))
    before = {name: node.to_dict() for name, node in index.docstore.docs.items()}
    engine = index.as_query_engine(
        llm=MockLLM(), similarity_top_k=3, node_postprocessors=[adapter(keep_retrieval_score=True)]
    )
    ask(engine, query)
    assert {name: node.to_dict() for name, node in index.docstore.docs.items()} == before


def test_a_query_engine_hands_over_its_callback_manager(adapter, retriever):
    manager, postprocessor = CallbackManager(), adapter()
    RetrieverQueryEngine.from_args(
        retriever, llm=MockLLM(), node_postprocessors=[postprocessor], callback_manager=manager
    )
    assert postprocessor.callback_manager is manager


def test_in_a_chat_engine(adapter, retriever, query):
    engine = ContextChatEngine.from_defaults(
        retriever=retriever,
        llm=MockLLM(),
        memory=ChatMemoryBuffer.from_defaults(token_limit=2000),
        node_postprocessors=[adapter(top_n=1)],
    )
    assert answered_from(engine.chat(query)) == ["node-2"]
    assert answered_from(asyncio.run(engine.achat(query))) == ["node-2"]


def test_the_retriever_evaluator_measures_the_gain(adapter, nodes, query):
    index = VectorStoreIndex([found.node for found in nodes], embed_model=MockEmbedding(embed_dim=8))
    retriever = index.as_retriever(similarity_top_k=3)
    before, after = (
        RetrieverEvaluator.from_metric_names(["mrr"], retriever=retriever, node_postprocessors=postprocessors)
        for postprocessors in ([], [adapter()])
    )
    assert before.evaluate(query, ["node-2"]).metric_vals_dict["mrr"] < 1
    assert after.evaluate(query, ["node-2"]).metric_vals_dict["mrr"] == 1
    assert asyncio.run(after.aevaluate(query, ["node-2"])).metric_vals_dict["mrr"] == 1


def test_two_rerankers_in_a_row(adapter, nodes, query):
    first, second = adapter(top_n=2, keep_retrieval_score=True), adapter(top_n=1, keep_retrieval_score=True)
    ranked = second.postprocess_nodes(first.postprocess_nodes(nodes, query_str=query), query_str=query)
    assert [found.node.node_id for found in ranked] == ["node-2"]
    # The note of the first is not part of the text that the second ranks.
    assert ranked[0].score == ranked[0].node.metadata["retrieval_score"]


def test_a_query_bundle_and_a_query_string_give_the_same(adapter, nodes, query):
    postprocessor = adapter()
    assert postprocessor.postprocess_nodes(nodes, QueryBundle(query)) == postprocessor.postprocess_nodes(
        nodes, query_str=query
    )
    assert postprocessor.rerank(nodes, QueryBundle(query)) == postprocessor.rerank(nodes, query)


def test_a_missing_query_is_refused(adapter, nodes):
    for found in (nodes, []):
        with pytest.raises(ValueError, match=r"Missing query bundle in extra info\."):
            adapter().postprocess_nodes(found)
        with pytest.raises(ValueError, match=r"Missing query bundle in extra info\."):
            asyncio.run(adapter().apostprocess_nodes(found))


def test_a_blank_query_is_refused(adapter, nodes):
    with pytest.raises(ValueError, match="`query` must not be blank"):
        adapter().postprocess_nodes(nodes, query_str=" ")


def test_results_are_nodes_with_scores(adapter, nodes, query):
    assert {type(found) for found in adapter().postprocess_nodes(nodes, query_str=query)} == {NodeWithScore}
