"""`GLiClassContextPruner` with LangChain's own documents and pipelines."""

import asyncio
import pickle

import pytest
from langchain_core.documents import Document
from langchain_gliclass import GLiClassContextPruner
from pydantic import ValidationError

from gliclass_rerank import ContextPruner
from gliclass_rerank.testing import shared_reranker

QUERY = "why does my chain skip when I push hard?"
TEXT = (
    "Bread dough rises faster in a warm kitchen. A worn chain jumps over the teeth of the sprockets when you push "
    "hard on the pedals. Invoices are sent by mail."
)


@pytest.fixture
def documents():
    return [
        Document(page_content=TEXT, id="1", metadata={"relevance_score": 0.7, "nested": {"tags": ["bicycle"]}}),
        Document(page_content="Bread dough rises faster in a warm kitchen.", id="2"),
        Document(page_content=" ", id="3"),
    ]


@pytest.fixture
def pruner():
    return GLiClassContextPruner(reranker=shared_reranker(), min_sentence_score=0.3)


def test_copies_have_what_bears_on_the_query_and_say_what_was_cut(pruner, documents):
    before = [document.model_copy(deep=True) for document in documents]

    (pruned,) = pruner.compress_documents(documents, QUERY)

    assert pruned.page_content == TEXT.split(". ")[1] + "."
    assert pruned.id == "1"
    assert pruned.metadata["relevance_score"] == 0.7
    ((start, end),) = pruned.metadata["kept_spans"]
    assert TEXT[start:end] == pruned.page_content
    assert pruned.metadata["pruned_chars"] == len(TEXT) - len(pruned.page_content)
    assert documents == before
    assert pruned.metadata["nested"] is not documents[0].metadata["nested"]


def test_async_is_sync(pruner, documents):
    expected = pruner.compress_documents(documents, QUERY)

    assert asyncio.run(pruner.acompress_documents(documents, QUERY)) == expected


def test_it_goes_behind_a_reranker_in_a_pipeline(documents):
    from langchain_classic.retrievers.document_compressors import DocumentCompressorPipeline
    from langchain_gliclass import GLiClassRerank

    pipeline = DocumentCompressorPipeline(
        transformers=[
            GLiClassRerank(reranker=shared_reranker(), top_n=1),
            GLiClassContextPruner(reranker=shared_reranker(), min_sentence_score=0.3),
        ]
    )
    (pruned,) = pipeline.compress_documents(documents, QUERY)
    assert pruned.page_content.startswith("A worn chain")
    assert {"relevance_score", "pruned_chars"} <= pruned.metadata.keys()


@pytest.mark.parametrize(
    "settings", [{"min_sentence_score": 2}, {"gap": 5}, {"on_error": "keep_order"}, {"unknown": 1}]
)
def test_a_wrong_setting_is_a_validation_error(settings):
    with pytest.raises(ValidationError):
        GLiClassContextPruner(**settings)


def test_settings_travel_and_the_default_threshold_is_the_cores(documents):
    pruner = GLiClassContextPruner(reranker={"model": "minilm-l6-v1", "backend": "torch"}, gap=" ... ")

    loaded = pickle.loads(pickle.dumps(pruner))
    assert loaded.model_dump() == pruner.model_dump() == GLiClassContextPruner(**pruner.model_dump()).model_dump()
    texts = [document.page_content for document in documents]
    expected = ContextPruner("minilm-l6-v1", backend="torch", gap=" ... ").run(QUERY, texts)
    assert [each.page_content for each in loaded.compress_documents(documents, QUERY)] == [
        each.text for each in expected
    ]
