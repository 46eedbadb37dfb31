"""LangChain's own suite for retrievers."""

from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_gliclass import GLiClassRerank, GLiClassRerankRetriever
from langchain_tests.integration_tests import RetrieversIntegrationTests

from gliclass_rerank.testing import PASSAGES, QUERY, shared_reranker


class TestGLiClassRerankRetriever(RetrieversIntegrationTests):
    @property
    def retriever_constructor(self):
        return GLiClassRerankRetriever

    @property
    def retriever_constructor_params(self):
        store = InMemoryVectorStore(DeterministicFakeEmbedding(size=8))
        store.add_documents([Document(page_content=text) for text in PASSAGES[:5]])
        return {
            "base_retriever": store.as_retriever(search_kwargs={"k": 5}),
            "reranker": GLiClassRerank(reranker=shared_reranker()),
        }

    @property
    def retriever_query_example(self):
        return QUERY

    @property
    def num_results_arg_name(self):
        return "top_n"
