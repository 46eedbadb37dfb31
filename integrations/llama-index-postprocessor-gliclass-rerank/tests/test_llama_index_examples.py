"""Judged examples in an index of LlamaIndex's, found with the bundled encoder, and shown by the postprocessor."""

import asyncio
import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
from llama_index.core import StorageContext, VectorStoreIndex, load_index_from_storage
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import MetadataMode, QueryBundle, TextNode
from llama_index.core.vector_stores import MetadataFilter, MetadataFilters
from llama_index.postprocessor.gliclass_rerank import GLiClassRerank, LlamaIndexExampleSource, to_node
from llama_index.retrievers.bm25 import BM25Retriever

from gliclass_rerank import BackendError, ConfigError, Example, Reranker
from gliclass_rerank.examples import ExampleStore, LocalEncoder
from gliclass_rerank.testing import QUERY, shared_reranker

SLIPPING = Example("my bike chain keeps slipping", ["Replace chain and cassette."], ["Pump the tyres."])
NOISE = Example("the chain of my bicycle makes a noise", ["Oil it."])
PLANTS = Example("how do plants feed themselves?", [], ["Bears sleep."])
EXAMPLES = (PLANTS, NOISE, SLIPPING)
ENCODER = LocalEncoder()


class BundledEmbedding(BaseEmbedding):
    _num_embedded: int = PrivateAttr(default=0)

    def _get_text_embeddings(self, texts):
        self._num_embedded += len(texts)
        return ENCODER.encode(texts).tolist()

    def _get_text_embedding(self, text):
        return self._get_text_embeddings([text])[0]

    _get_query_embedding = _get_text_embedding

    async def _aget_query_embedding(self, query):
        return self._get_text_embedding(query)


@pytest.fixture
def model():
    return BundledEmbedding()


@pytest.fixture
def index(model):
    made = VectorStoreIndex(list(map(to_node, EXAMPLES)), embed_model=model)
    model._num_embedded = 0
    return made


def test_a_node_holds_the_example_and_no_model_reads_the_labels():
    node = to_node(SLIPPING.to_dict())
    assert node.text == SLIPPING.text
    assert node.metadata == {
        "true_labels": '["Replace chain and cassette."]',
        "false_labels": '["Pump the tyres."]',
    }
    assert {node.get_content(metadata_mode=mode) for mode in (MetadataMode.EMBED, MetadataMode.LLM)} == {SLIPPING.text}


@pytest.mark.parametrize("least", [-1.0, 0.3, 0.56, 0.57, 0.95])
def test_it_finds_what_our_own_store_finds(index, least):
    with ExampleStore(None, ENCODER) as ours:
        ours.add(EXAMPLES)
        expected = [found.example for found in ours.search(QUERY, 2, least)]
    assert LlamaIndexExampleSource(index).find_examples([QUERY, "opening hours"], 2, least)[0] == expected


def test_it_leaves_out_the_query_itself_unless_asked(index):
    index.insert_nodes([to_node(Example(f"  {QUERY.upper()} ", ["leak"]))])
    source = LlamaIndexExampleSource(index)
    assert source.find_examples([QUERY], 2, 0.5) == [[SLIPPING, NOISE]]
    assert source.find_examples([QUERY], 1, 0.5, allow_equal=True)[0][0].true_labels == ("leak",)


def test_an_index_whose_scores_are_cosines_needs_no_more_embeddings(index, model):
    assert LlamaIndexExampleSource(index).find_examples([QUERY], 1, 0.5) == [[SLIPPING]]
    assert model._num_embedded == 2  # query and node
    model._num_embedded = 0
    source = LlamaIndexExampleSource(index, to_cosine=lambda score: score)
    assert source.find_examples([QUERY], 1, 0.5) == [[SLIPPING]]
    assert model._num_embedded == 1


def test_a_retriever_will_do_with_what_it_returns(index, model):
    for count, expected in ((1, [SLIPPING]), (3, [SLIPPING, NOISE])):
        retriever = index.as_retriever(similarity_top_k=count)
        assert LlamaIndexExampleSource(retriever, embed_model=model).find_examples([QUERY], 3, 0.5) == [expected]
    words = BM25Retriever.from_defaults(nodes=list(map(to_node, EXAMPLES)), similarity_top_k=3)
    assert LlamaIndexExampleSource(words, embed_model=model).find_examples([QUERY], 3, 0.5) == [[SLIPPING, NOISE]]
    with pytest.raises(ConfigError, match="does not say how it embeds; pass `embed_model`, or pass `to_cosine`"):
        LlamaIndexExampleSource(words)


def test_a_filter_keeps_other_nodes_out(model):
    nodes = [TextNode(text=f"{QUERY} See page 3.", metadata={"page": 3}), *map(to_node, EXAMPLES)]
    for node in nodes[1:]:
        node.metadata["kind"] = "example"
        node.excluded_embed_metadata_keys.append("kind")
    index = VectorStoreIndex(nodes, embed_model=model)
    with pytest.raises(BackendError, match=r"no example, 'how do I stop .* got the keys \['page'\]"):
        LlamaIndexExampleSource(index).find_examples([QUERY], 3, 0.5)
    filters = MetadataFilters(filters=[MetadataFilter(key="kind", value="example")])
    source = LlamaIndexExampleSource(index, retriever_kwargs={"filters": filters})
    assert source.find_examples([QUERY], 3, 0.5) == [[SLIPPING, NOISE]]


def test_metadata_that_are_embedded_count_in_the_similarity(model):
    node = to_node(SLIPPING)
    node.metadata["shop"] = "All about bread"
    embedded = node.get_content(metadata_mode=MetadataMode.EMBED)
    cosine = float((ENCODER.encode([QUERY]) @ ENCODER.encode([embedded]).T)[0, 0])
    source = LlamaIndexExampleSource(VectorStoreIndex([node], embed_model=model))
    assert source.find_examples([QUERY], 1, cosine - 1e-4) == [[SLIPPING]]
    assert source.find_examples([QUERY], 1, cosine + 1e-4) == [[]]


def test_a_persisted_index_is_searched_as_before(index, model, tmp_path):
    index.storage_context.persist(str(tmp_path))
    storage = StorageContext.from_defaults(persist_dir=str(tmp_path))
    loaded = load_index_from_storage(storage, embed_model=model)
    assert LlamaIndexExampleSource(loaded).find_examples([QUERY], 3, 0.5) == [[SLIPPING, NOISE]]


def test_threads_find_the_same_whatever_they_ask_for(index):
    source = LlamaIndexExampleSource(index)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda k: source.find_examples([QUERY], k, 0.5), [1, 2] * 8))
    assert found == [[[SLIPPING]], [[SLIPPING, NOISE]]] * 8


def test_something_else_is_refused(index):
    with pytest.raises(ConfigError, match="`index` must be a `VectorStoreIndex` or a retriever, got "):
        LlamaIndexExampleSource(index.vector_store)


# In the postprocessor


@pytest.fixture
def expected(texts):
    """Best first, the scores of `nodes` with these examples."""
    return lambda *examples: [hit.score for hit in shared_reranker().rank(QUERY, texts, examples=examples)]


@pytest.fixture
def path(tmp_path):
    with ExampleStore(tmp_path / "judged.db") as ours:
        ours.add(EXAMPLES)
    return tmp_path / "judged.db"


def scores(nodes):
    return [found.score for found in nodes]


def test_a_query_engine_shows_what_an_index_holds(index, nodes, expected):
    postprocessor = GLiClassRerank(device="cpu", example_store=LlamaIndexExampleSource(index))
    words = BM25Retriever.from_defaults(nodes=[found.node for found in nodes], similarity_top_k=3)
    engine = RetrieverQueryEngine.from_args(words, llm=MockLLM(), node_postprocessors=[postprocessor])
    for response in (engine.query(QUERY), asyncio.run(engine.aquery(QueryBundle(QUERY)))):
        assert scores(response.source_nodes) == expected(SLIPPING, NOISE)
    assert expected(SLIPPING, NOISE) != expected()


@pytest.mark.parametrize("wrapped", [dict, lambda settings: Reranker(**settings)])
def test_how_many_and_how_similar_is_the_rerankers_to_say(index, nodes, expected, wrapped):
    settings = {"device": "cpu", "example_store": LlamaIndexExampleSource(index), "num_examples": 1}
    assert scores(GLiClassRerank(reranker=wrapped(settings)).rerank(nodes, QUERY)) == expected(SLIPPING)
    settings |= {"min_example_similarity": 0.95}
    assert scores(GLiClassRerank(reranker=wrapped(settings)).rerank(nodes, QUERY)) == expected()


def test_a_store_may_be_assigned_and_given_examples_stand_in_for_it(index, nodes, expected):
    postprocessor = GLiClassRerank(device="cpu")
    assert scores(postprocessor.rerank(nodes, QUERY)) == expected()
    postprocessor.example_store = LlamaIndexExampleSource(index)
    assert scores(postprocessor.rerank(nodes, QUERY)) == expected(SLIPPING, NOISE)
    postprocessor.examples = [PLANTS]
    assert scores(postprocessor.rerank(nodes, QUERY)) == expected(PLANTS)


def test_a_tenant_is_shown_its_own_examples(tmp_path, nodes, expected):
    with ExampleStore(tmp_path / "tenants.db") as ours:
        ours.add([SLIPPING], metadata=[{"tenant": "a"}])
        ours.add([NOISE], metadata=[{"tenant": "b"}])
    postprocessor = GLiClassRerank(device="cpu", example_store=tmp_path / "tenants.db")
    assert scores(postprocessor.rerank(nodes, QUERY, where={"tenant": "a"})) == expected(SLIPPING)
    assert scores(asyncio.run(postprocessor.arerank(nodes, QUERY, where={"tenant": "b"}))) == expected(NOISE)
    postprocessor.where = {"tenant": "a"}
    assert scores(postprocessor.postprocess_nodes(nodes, query_str=QUERY)) == expected(SLIPPING)


def test_a_path_travels(path, nodes, expected):
    postprocessor = GLiClassRerank(device="cpu", example_store=path)
    assert scores(postprocessor.rerank(nodes, QUERY)) == expected(SLIPPING, NOISE)
    assert postprocessor.to_dict()["example_store"] == str(path)
    for again in (
        pickle.loads(pickle.dumps(postprocessor)),
        GLiClassRerank.from_json(postprocessor.to_json()),
        GLiClassRerank(reranker={"device": "cpu", "example_store": path}),
        pickle.loads(pickle.dumps(GLiClassRerank(reranker=Reranker(device="cpu", example_store=path)))),
    ):
        assert scores(again.rerank(nodes, QUERY)) == expected(SLIPPING, NOISE)


@pytest.mark.parametrize(
    "wrapped", [dict, lambda settings: {"reranker": settings}, lambda settings: {"reranker": Reranker(**settings)}]
)
def test_an_object_does_not_travel(index, wrapped):
    postprocessor = GLiClassRerank(**wrapped({"example_store": LlamaIndexExampleSource(index)}))
    message = "an `example_store` that is an object cannot be pickled or written into settings; give the store's path"
    for travel in (pickle.dumps, GLiClassRerank.to_dict, GLiClassRerank.to_json):
        with pytest.raises(ValueError, match=message):
            travel(postprocessor)


def test_copies_share_the_store(index, nodes, expected):
    original = GLiClassRerank(device="cpu", example_store=LlamaIndexExampleSource(index))
    for copied in (copy.copy(original), copy.deepcopy(original), original.model_copy(update={"top_n": 2}, deep=True)):
        assert copied.example_store is original.example_store
        assert scores(copied.rerank(nodes, QUERY)) == expected(SLIPPING, NOISE)[: copied.top_n]


def test_a_store_that_is_down_keeps_the_order_on_request(index, nodes):
    def refused(query, **settings):
        raise ConnectionError("refused by localhost:6333")

    object.__setattr__(index.vector_store, "query", refused)
    source = LlamaIndexExampleSource(index)
    ranked = GLiClassRerank(device="cpu", example_store=source, on_error="keep_order").rerank(nodes, QUERY)
    assert [found.node.node_id for found in ranked] == [found.node.node_id for found in nodes]
    message = "BackendError: the example store failed: ConnectionError: refused by localhost:6333"
    assert {found.node.metadata["rerank_error"] for found in ranked} == {message}
    with pytest.raises(BackendError, match="refused by localhost:6333"):
        GLiClassRerank(device="cpu", example_store=source).rerank(nodes, QUERY)


def test_a_store_of_another_kind_is_refused(index):
    for wrong in (3, index, LlamaIndexExampleSource):
        with pytest.raises(ValueError, match="`example_store` must be a path or have `find_examples`"):
            GLiClassRerank(example_store=wrong)
    with pytest.raises(ValueError, match="`reranker` or `example_store`, not both"):
        GLiClassRerank(reranker={"device": "cpu"}, example_store="judged.db")
