"""Which text of a node is ranked, and what comes back in its place."""

import pickle

import numpy as np
import pytest
from llama_index.core.schema import (
    Document,
    ImageNode,
    IndexNode,
    MetadataMode,
    Node,
    NodeRelationship,
    NodeWithScore,
    RelatedNodeInfo,
    TextNode,
)
from llama_index.postprocessor.gliclass_rerank import GLiClassRerank

from gliclass_rerank.testing import shared_reranker

_NOTED = {"keep_retrieval_score": True, "report_truncation": True, "fusion": "reciprocal_rank"}


@pytest.fixture
def described():
    """A node with metadata that the embedding model, the LLM, both or neither read."""
    node = TextNode(
        text="Replace both together.",
        metadata={"title": "Worn chains", "path": "a/b.txt", "summary": "chain slip", "id": 7},
        excluded_embed_metadata_keys=["path", "id"],
        excluded_llm_metadata_keys=["summary", "id"],
    )
    return NodeWithScore(node=node, score=0.5)


@pytest.fixture
def whole():
    """A node with everything a node can carry."""
    node = TextNode(
        id_="whole",
        text="Oil the chain.",
        metadata={"tags": ["chain"]},
        embedding=[0.25] * 768,
        excluded_embed_metadata_keys=["tags"],
        excluded_llm_metadata_keys=["tags"],
        relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id="handbook")},
        start_char_idx=3,
        end_char_idx=17,
        mimetype="text/markdown",
        metadata_template="{key} = {value}",
        metadata_separator="; ",
        text_template="{metadata_str} | {content}",
    )
    return NodeWithScore(node=node, score=0.5)


@pytest.mark.parametrize(
    ("mode", "text"),
    [
        (MetadataMode.NONE, "Replace both together."),
        (MetadataMode.EMBED, "title: Worn chains\nsummary: chain slip\n\nReplace both together."),
        (MetadataMode.LLM, "title: Worn chains\npath: a/b.txt\n\nReplace both together."),
        (MetadataMode.ALL, "title: Worn chains\npath: a/b.txt\nsummary: chain slip\nid: 7\n\nReplace both together."),
    ],
)
def test_the_mode_chooses_the_text(adapter, described, query, core_score, mode, text):
    assert adapter(metadata_mode=mode).rerank([described], query)[0].score == core_score(text)
    assert adapter(metadata_mode=mode.value).rerank([described], query)[0].score == core_score(text)


def test_the_text_for_the_embedding_model_is_ranked_by_default(adapter, described, query, core_score):
    expected = core_score(described.node.get_content(metadata_mode=MetadataMode.EMBED))
    assert adapter().rerank([described], query)[0].score == expected


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="metadata_mode"):
        GLiClassRerank(metadata_mode="title")


def test_notes_are_read_by_programs_only(adapter, described, query):
    ranked = adapter(**_NOTED).rerank([described], query)[0].node
    assert ranked.metadata["retrieval_score"] == 0.5
    assert ranked.metadata["rerank_score"] != ranked.metadata["retrieval_score"]
    for mode in (MetadataMode.EMBED, MetadataMode.LLM):
        assert ranked.get_content(metadata_mode=mode) == described.node.get_content(metadata_mode=mode)


def test_the_reason_of_a_kept_order_is_not_read_either(described, query):
    adapter = GLiClassRerank(model="./no-such-folder/no-such-model", on_error="keep_order")
    ranked = adapter.rerank([described], query)[0].node
    assert "rerank_error" in ranked.metadata
    assert ranked.get_content(metadata_mode=MetadataMode.LLM) == described.node.get_content(
        metadata_mode=MetadataMode.LLM
    )


def test_everything_a_node_carries_is_kept(adapter, whole, query):
    ranked = adapter().rerank([whole], query)[0]
    assert ranked.node == whole.node
    assert ranked.node.hash == whole.node.hash
    assert ranked.score != whole.score


def test_writing_to_the_result_leaves_the_input_alone(adapter, whole, query):
    before = pickle.dumps(whole)
    ranked = adapter(**_NOTED).rerank([whole], query)[0]
    ranked.node.metadata["tags"].append("oil")
    ranked.node.metadata["title"] = "Oil"
    ranked.node.excluded_llm_metadata_keys.append("title")
    ranked.node.excluded_embed_metadata_keys.append("title")
    ranked.node.relationships[NodeRelationship.NEXT] = RelatedNodeInfo(node_id="next")
    ranked.node.text = "changed"
    ranked.score = 9.0
    assert pickle.dumps(whole) == before


def test_embeddings_are_shared_rather_than_copied(adapter, whole, query):
    assert adapter().rerank([whole], query)[0].node.embedding is whole.node.embedding


def test_the_same_node_twice_comes_back_twice(adapter, whole, query):
    ranked = adapter(keep_retrieval_score=True).rerank([whole, whole], query)
    assert len(ranked) == 2
    assert ranked[0].node is not ranked[1].node


def test_a_node_of_the_users_own_class_is_kept(adapter, query):
    class Quote(TextNode):
        speaker: str

    ranked = adapter(**_NOTED).rerank([NodeWithScore(node=Quote(text="Oil it.", speaker="mechanic"), score=1.0)], query)
    assert (type(ranked[0].node), ranked[0].node.speaker) == (Quote, "mechanic")


def test_other_kinds_of_nodes(adapter, texts, query):
    obj = object()
    found = [
        NodeWithScore(node=IndexNode(text=texts[0], index_id="index", obj=obj)),
        NodeWithScore(node=Document(text=texts[1])),
        NodeWithScore(node=Node(text_resource={"text": texts[2]})),
    ]
    ranked = adapter().rerank(found, query)
    expected = shared_reranker().rank(query, texts)
    assert [type(found.node) for found in ranked] == [type(found[hit.index].node) for hit in expected]
    assert [found.score for found in ranked] == [hit.score for hit in expected]
    assert [found.node.obj for found in ranked if isinstance(found.node, IndexNode)] == [obj]


def test_nodes_without_text_go_last(adapter, nodes, query):
    empty = [
        NodeWithScore(node=ImageNode(id_="image", image_url="http://localhost/chain.png"), score=9.0),
        NodeWithScore(node=TextNode(id_="empty", text=""), score=8.0),
        NodeWithScore(node=Node(id_="nothing"), score=7.0),
    ]
    ranked = adapter().rerank([*empty, *nodes], query)
    assert [found.node.node_id for found in ranked[-3:]] == ["image", "empty", "nothing"]
    assert [found.score for found in ranked[-3:]] == [0.0, 0.0, 0.0]
    assert len(adapter(score_threshold=1e-6).rerank([*empty, *nodes], query)) == len(nodes)


def test_an_image_with_metadata_is_ranked_by_them(adapter, query, core_score):
    image = NodeWithScore(node=ImageNode(image_url="http://localhost/1.png", metadata={"caption": "a worn chain"}))
    assert adapter().rerank([image], query)[0].score == core_score("caption: a worn chain")
    assert adapter(metadata_mode=MetadataMode.NONE).rerank([image], query)[0].score == 0.0


def test_scores_of_the_retriever_may_be_missing(adapter, texts, query):
    found = [NodeWithScore(node=TextNode(text=text)) for text in texts]
    assert adapter(keep_retrieval_score=True).rerank(found, query)[0].node.metadata == {}
    with pytest.raises(ValueError, match="weighted fusion needs"):
        adapter(fusion="weighted").rerank(found, query)


def test_numpy_scores_that_were_assigned_become_numbers_that_json_knows(adapter, nodes, query):
    for found in nodes:
        found.score = np.float32(found.score)
    missing = GLiClassRerank(model="./no-such-folder/no-such-model", on_error="keep_order", keep_retrieval_score=True)
    for found in (
        *adapter(keep_retrieval_score=True, fusion="weighted").rerank(nodes, query),
        *missing.rerank(nodes, query),
    ):
        assert type(found.score) is float
        assert type(found.node.metadata["retrieval_score"]) is float
        assert found.model_dump_json()
