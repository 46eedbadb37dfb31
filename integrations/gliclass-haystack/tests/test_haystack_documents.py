"""Haystack's documents: ids, duplicates, what is ranked of them, and what belongs to the caller."""

import threading

import pytest
from haystack import Document
from haystack.dataclasses import ByteStream, SparseEmbedding
from haystack.utils.misc import _deduplicate_documents
from haystack_integrations.components.rankers.gliclass import GLiClassRanker
from haystack_integrations.components.rankers.gliclass.documents import deduplicated

from gliclass_rerank import InputError
from gliclass_rerank.testing import QUERY, shared_reranker

CHAIN, BREAD = "A worn chain jumps over the sprockets.", "Bread dough rises faster in a warm kitchen."


def ranked(documents, **settings):
    return GLiClassRanker(reranker=shared_reranker(), **settings).run(query=QUERY, documents=documents)["documents"]


def core_score(text):
    return shared_reranker().rank(QUERY, [text])[0].score


def test_ids_made_from_content_and_metadata_survive_new_metadata():
    found = [Document(content=BREAD, meta={"page": 3}, score=0.4), Document(content=CHAIN, score=0.2)]
    best = ranked(found, keep_retrieval_score=True)
    assert [document.id for document in best] == [found[1].id, found[0].id]
    assert best[1].meta == {"page": 3, "retrieval_score": 0.4}


def test_everything_else_in_a_document_is_kept():
    found = Document(
        content=CHAIN,
        blob=ByteStream(b"picture", mime_type="image/png"),
        embedding=[0.25, 0.5],
        sparse_embedding=SparseEmbedding(indices=[3], values=[0.5]),
    )
    best = ranked([found])[0]
    assert best is not found
    assert (best.blob, best.embedding, best.sparse_embedding) == (found.blob, found.embedding, found.sparse_embedding)
    assert (best.score, found.score) == (core_score(CHAIN), None)


def test_embeddings_are_shared_and_not_copied():
    found = Document(content=CHAIN, embedding=[0.25, 0.5])
    assert ranked([found])[0].embedding is found.embedding


def test_metadata_is_the_outputs_own_at_every_depth():
    found = Document(content=CHAIN, meta={"pages": [{"number": 3}, (["a"],)], "tags": {"x"}})
    meta = ranked([found])[0].meta
    meta["pages"][0]["number"] = 4
    meta["pages"][1][0].append("b")
    meta["pages"].append("c")
    meta["tags"].add("y")
    assert found.meta == {"pages": [{"number": 3}, (["a"],)], "tags": {"x"}}


def test_metadata_may_hold_what_cannot_be_copied():
    lock = threading.Lock()
    assert ranked([Document(content=CHAIN, meta={"lock": lock})])[0].meta["lock"] is lock


SCORES = ((0.1, 0.3, 0.2), (None, None, 0.0), (0.0, None, None), (-1.0, -2.0, None), (0.5, 0.5, 0.5))


@pytest.mark.parametrize("scores", SCORES)
def test_duplicates_are_dropped_exactly_as_haystacks_rankers_drop_them(scores):
    twins = [Document(id="twin", content=f"text {number}", score=score) for number, score in enumerate(scores)]
    found = [twins[0], Document(id="other", content=BREAD, score=0.9), *twins[1:]]
    assert [id(document) for document in deduplicated(found)] == [
        id(document) for document in _deduplicate_documents(found)
    ]


def test_the_best_scored_duplicate_is_the_one_ranked():
    best = ranked(
        [
            Document(id="twin", content=BREAD, score=0.1),
            Document(id="other", content=BREAD, score=0.9),
            Document(id="twin", content=CHAIN, score=0.3),
        ],
        keep_retrieval_score=True,
    )
    assert [(document.id, document.content) for document in best] == [("twin", CHAIN), ("other", BREAD)]
    assert best[0].meta["retrieval_score"] == 0.3


def test_a_document_without_text_comes_last_and_any_threshold_drops_it():
    found = [Document(id="blob", blob=ByteStream(b"picture")), Document(id="text", content=BREAD)]
    assert [(document.id, document.score) for document in ranked(found)] == [("text", core_score(BREAD)), ("blob", 0.0)]
    assert [document.id for document in ranked(found, score_threshold=0.001)] == ["text"]


def test_metadata_values_come_before_the_content():
    found = Document(content=CHAIN, meta={"title": "Repairs", "chapter": 0, "draft": False, "author": None})
    fields = ["title", "author", "chapter", "draft", "missing"]
    assert ranked([found], meta_fields_to_embed=fields)[0].score == core_score(f"Repairs\n0\nFalse\n{CHAIN}")
    best = ranked([found], meta_fields_to_embed=("title",), embedding_separator=": ", passage_prefix="about ")
    assert best[0].score == core_score(f"about Repairs: {CHAIN}")


def test_metadata_alone_can_be_ranked():
    table = Document(blob=ByteStream(b"1,2"), meta={"title": CHAIN})
    assert ranked([table], meta_fields_to_embed=["title"])[0].score == core_score(f"{CHAIN}\n")
    assert ranked([table])[0].score == 0.0


@pytest.mark.parametrize("wrong", ["a text", None, 3, Document(content=CHAIN)])
def test_documents_that_are_no_list_are_refused(wrong):
    with pytest.raises(InputError, match="`documents` must be a list of documents, got "):
        ranked(wrong)


def test_what_is_no_document_is_refused_by_its_place():
    with pytest.raises(InputError, match=r"`documents\[1\]` must be a `Document`, got 'a text'"):
        ranked([Document(content=CHAIN), "a text"])
