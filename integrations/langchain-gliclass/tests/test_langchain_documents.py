"""Documents in, documents out."""

import threading

import numpy as np
import pytest
from langchain_core.documents import Document
from langchain_gliclass import GLiClassRerank

from gliclass_rerank import InputError
from gliclass_rerank.testing import QUERY, shared_reranker


def core_score(text):
    return shared_reranker().rank(QUERY, [text])[0].score


def only_score(reranker, document):
    return reranker.rerank([document], QUERY)[0].metadata["relevance_score"]


@pytest.mark.parametrize(
    ("metadata", "text"),
    [
        ({"title": "Chains", "year": 2024}, "Chains\n2024\nOil it."),
        ({"year": 2024, "title": "Chains"}, "Chains\n2024\nOil it."),
        ({"title": 0, "year": False}, "0\nFalse\nOil it."),
        ({"title": None}, "Oil it."),
        ({"other": "Bread"}, "Oil it."),
    ],
)
def test_the_model_sees_the_values_of_metadata_keys_before_the_content(ready, metadata, text):
    document = Document(page_content="Oil it.", metadata=metadata)
    assert only_score(ready(metadata_keys=["title", "year"]), document) == core_score(text)


def test_the_separator_is_the_callers(ready):
    reranker = ready(metadata_keys=("title",), separator=" | ", passage_prefix="passage: ")
    document = Document(page_content="Oil it.", metadata={"title": "Chains"})
    assert only_score(reranker, document) == core_score("passage: Chains | Oil it.")


def test_a_blank_document_with_metadata_to_show_is_not_blank(ready):
    document = Document(page_content="", metadata={"title": "Chains"})
    assert only_score(ready(metadata_keys=["title"]), document) == core_score("Chains\n")
    assert only_score(ready(), document) == 0.0


def test_nothing_is_shared_that_a_later_write_could_reach(ready):
    metadata = {"nested": {"tags": ["bicycle"], "set": {1}}, "pairs": ([1], [2]), "rows": [{"a": 1}]}
    document = Document(page_content="Oil it.", metadata=metadata)
    ranked = ready().rerank([document], QUERY)[0].metadata
    ranked["nested"]["tags"].append("changed")
    ranked["nested"]["set"].add(2)
    ranked["pairs"][0].append(2)
    ranked["rows"][0]["a"] = 2
    assert document.metadata == {
        "nested": {"tags": ["bicycle"], "set": {1}},
        "pairs": ([1], [2]),
        "rows": [{"a": 1}],
    }


def test_embeddings_and_clients_in_metadata_are_passed_on_as_they_are(ready):
    metadata = {"array": np.ones(3), "vector": [0.5] * 3, "client": threading.Lock()}
    ranked = ready().rerank([Document(page_content="Oil it.", metadata=metadata)], QUERY)[0].metadata
    assert all(ranked[key] is value for key, value in metadata.items())


def test_a_document_class_of_the_caller_stays_what_it_is(ready):
    class Page(Document):
        number: int

    ranked = ready().rerank([Page(page_content="Oil it.", number=7)], QUERY)[0]
    assert (type(ranked), ranked.number) == (Page, 7)


def test_any_iterable_of_documents_will_do(ready, found):
    assert ready().rerank(iter(found), QUERY) == ready().rerank(tuple(found), QUERY) == ready().rerank(found, QUERY)


@pytest.mark.parametrize("documents", [["Oil it."], [("Oil it.", 0.5)], [None]])
def test_what_is_no_document_is_refused_by_its_index(ready, documents):
    with pytest.raises(InputError, match=r"`documents\[0\]` must be a `Document`"):
        ready().rerank(documents, QUERY)


def test_a_text_is_no_list_of_documents(ready):
    with pytest.raises(InputError, match=r"`documents` must be a list of documents, got 'Oil it\.'"):
        ready().rerank("Oil it.", QUERY)


def test_a_document_without_the_key_has_no_retrieval_score(ready, found):
    del found[0].metadata["bm25"]
    ranked = ready(retrieval_score_key="bm25", keep_retrieval_score=True).rerank(found, QUERY)
    kept = {document.id: document.metadata.get("retrieval_score") for document in ranked}
    assert (kept["doc-0"], kept["doc-1"]) == (None, 8.5)


def test_weighted_fusion_without_a_retrieval_score_is_refused(ready, found):
    with pytest.raises(ValueError, match="weighted fusion needs `retrieval_score_key`"):
        ready(fusion="weighted")
    with pytest.raises(InputError, match=r"under the metadata key 'missing' .* `documents\[0\]` has none"):
        ready(fusion="weighted", retrieval_score_key="missing").rerank(found, QUERY)
    found[1].metadata["bm25"] = float("nan")
    with pytest.raises(InputError, match="a finite number, got nan at 1"):
        ready(fusion="weighted", retrieval_score_key="bm25").rerank(found, QUERY)


@pytest.mark.parametrize("value", ["9.0", True, [1.0]])
def test_a_retrieval_score_that_is_no_number_is_refused(ready, found, value):
    found[1].metadata["bm25"] = value
    with pytest.raises(InputError, match=r"retrieval_scores\[1\]"):
        ready(retrieval_score_key="bm25").rerank(found, QUERY)


def test_a_numpy_retrieval_score_is_a_number_and_comes_out_as_a_float(ready, found):
    for document in found:
        document.metadata["bm25"] = np.float32(document.metadata["bm25"])
    ranked = ready(retrieval_score_key="bm25", keep_retrieval_score=True, fusion="weighted").rerank(found, QUERY)
    assert {type(document.metadata["retrieval_score"]) for document in ranked} == {float}


def test_when_the_order_is_kept_an_earlier_score_stays(found):
    found[0].metadata["relevance_score"] = 0.25
    kept = GLiClassRerank(model="./no-such-folder", on_error="keep_order").rerank(found, QUERY)
    assert [document.metadata.get("relevance_score") for document in kept] == [0.25] + [None] * 4


def test_a_second_reranking_replaces_the_score(ready, found):
    once = ready().rerank(found, QUERY)
    assert ready().rerank(once, QUERY) == once
    assert once[0].metadata["relevance_score"] != ready().rerank(once, "bread dough")[0].metadata["relevance_score"]
