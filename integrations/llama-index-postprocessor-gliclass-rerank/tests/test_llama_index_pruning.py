"""`GLiClassContextPruner` with LlamaIndex's own nodes."""

import asyncio
import pickle

import pytest
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from llama_index.postprocessor.gliclass_rerank import GLiClassContextPruner
from pydantic import ValidationError

from gliclass_rerank.testing import shared_reranker

QUERY = "why does my chain skip when I push hard?"
CHAIN = "A worn chain jumps over the teeth of the sprockets when you push hard on the pedals."
TEXT = f"Bread dough rises faster in a warm kitchen. {CHAIN} Invoices are sent by mail."


@pytest.fixture
def found():
    return [
        NodeWithScore(node=TextNode(id_="1", text=TEXT, metadata={"file": "a.md"}), score=0.7),
        NodeWithScore(node=TextNode(id_="2", text="Bread dough rises faster in a warm kitchen."), score=0.5),
        NodeWithScore(node=TextNode(id_="3", text=""), score=None),
    ]


@pytest.fixture
def pruner():
    return GLiClassContextPruner(reranker=shared_reranker(), min_sentence_score=0.3)


def test_copies_have_what_bears_on_the_query_and_say_what_was_cut(pruner, found):
    before = [each.model_copy(deep=True) for each in found]

    (pruned,) = pruner.postprocess_nodes(found, QueryBundle(QUERY))

    assert pruned.node.get_content() == CHAIN
    assert (pruned.score, pruned.node.node_id) == (0.7, "1")
    ((start, end),) = pruned.node.metadata["kept_spans"]
    assert TEXT[start:end] == CHAIN
    assert pruned.node.metadata["pruned_chars"] == len(TEXT) - len(CHAIN)
    assert pruned.node.metadata["file"] == "a.md"
    assert {"kept_spans", "pruned_chars"} <= {*pruned.node.excluded_llm_metadata_keys}
    assert found == before
    assert asyncio.run(pruner.apostprocess_nodes(found, QueryBundle(QUERY))) == [pruned]


def test_settings_travel(found):
    pruner = GLiClassContextPruner(reranker={"model": "minilm-l6-v1", "backend": "torch"}, min_sentence_score=0.3)

    for copied in (
        GLiClassContextPruner.from_dict(pruner.to_dict()),
        pickle.loads(pickle.dumps(pruner)),
        GLiClassContextPruner(**pruner.model_dump()),
    ):
        assert copied.to_dict() == pruner.to_dict()
        assert [each.node.get_content() for each in copied.postprocess_nodes(found, query_str=QUERY)] == [CHAIN]


def test_a_query_is_needed(pruner, found):
    with pytest.raises(ValueError, match="Missing query"):
        pruner.postprocess_nodes(found)


@pytest.mark.parametrize(
    "settings", [{"min_sentence_score": 2}, {"gap": 5}, {"on_error": "keep_order"}, {"unknown": 1}]
)
def test_a_wrong_setting_is_a_validation_error(settings):
    with pytest.raises(ValidationError):
        GLiClassContextPruner(**settings)
