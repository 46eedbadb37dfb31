"""Judged examples in a document store of Haystack's, found with the bundled encoder, and shown by the ranker."""

import asyncio
import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from haystack import Document, Pipeline, component
from haystack.components.retrievers.in_memory import InMemoryBM25Retriever, InMemoryEmbeddingRetriever
from haystack.components.writers import DocumentWriter
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.utils import ComponentDevice
from haystack_integrations.components.rankers.gliclass import GLiClassRanker, HaystackExampleSource, to_document

from gliclass_rerank import BackendError, ConfigError, Example, Reranker
from gliclass_rerank.examples import ExampleStore, LocalEncoder
from gliclass_rerank.testing import PASSAGES, QUERY, shared_reranker

SLIPPING = Example("my bike chain keeps slipping", ["Replace chain and cassette."], ["Pump the tyres."])
NOISE = Example("the chain of my bicycle makes a noise", ["Oil it."])
PLANTS = Example("how do plants feed themselves?", [], ["Bears sleep."])
EXAMPLES = (PLANTS, NOISE, SLIPPING)
ENCODER = LocalEncoder()


@component
class BundledTextEmbedder:
    """Refuses to run cold, as embedders of Haystack 2 do. Its vectors are longer than 1."""

    def __init__(self):
        self.encoder, self.num_loads = None, 0

    def warm_up(self):
        self.encoder, self.num_loads = ENCODER, self.num_loads + 1

    @component.output_types(embedding=list[float])
    def run(self, text: str):
        return {"embedding": (3 * self.encoder.encode([text])[0]).tolist()}


@component
class BundledDocumentEmbedder:
    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]):
        vectors = ENCODER.encode([document.content for document in documents])
        return {
            "documents": [
                replace(document, embedding=(5 * vector).tolist())
                for document, vector in zip(documents, vectors, strict=True)
            ]
        }


EMBEDDER = BundledTextEmbedder()


def write(store, documents):
    pipeline = Pipeline()
    pipeline.add_component("embedder", BundledDocumentEmbedder())
    pipeline.add_component("writer", DocumentWriter(store))
    pipeline.connect("embedder", "writer")
    pipeline.run({"embedder": {"documents": documents}})


@pytest.fixture(params=["dot_product", "cosine"])
def store(request):
    made = InMemoryDocumentStore(embedding_similarity_function=request.param)
    write(made, list(map(to_document, EXAMPLES)))
    return made


def source_over(store, **options):
    return HaystackExampleSource(InMemoryEmbeddingRetriever(store, return_embedding=True, **options), EMBEDDER)


def test_a_document_holds_the_example():
    document = to_document(SLIPPING.to_dict())
    assert document.content == SLIPPING.text
    assert document.meta == {"true_labels": '["Replace chain and cassette."]', "false_labels": '["Pump the tyres."]'}


@pytest.mark.parametrize("least", [-1.0, 0.3, 0.56, 0.57, 0.95])
@pytest.mark.parametrize("scale_score", [False, True])
def test_it_finds_what_our_own_store_finds(store, least, scale_score):
    with ExampleStore(None, ENCODER) as ours:
        ours.add(EXAMPLES)
        expected = [found.example for found in ours.search(QUERY, 2, least)]
    source = source_over(store, scale_score=scale_score)
    assert source.find_examples([QUERY, "opening hours"], 2, least)[0] == expected


def test_it_leaves_out_the_query_itself_unless_asked(store):
    write(store, [to_document(Example(f"  {QUERY.upper()} ", ["leak"]))])
    source = source_over(store)
    assert source.find_examples([QUERY], 2, 0.5) == [[SLIPPING, NOISE]]
    assert source.find_examples([QUERY], 1, 0.5, allow_equal=True)[0][0].true_labels == ("leak",)


def test_without_embeddings_it_has_to_know_what_a_score_means():
    store = InMemoryDocumentStore(embedding_similarity_function="cosine")
    write(store, list(map(to_document, EXAMPLES)))
    plain, scaled = InMemoryEmbeddingRetriever(store), InMemoryEmbeddingRetriever(store, scale_score=True)
    with pytest.raises(BackendError, match="must return embeddings; set its or its store's `return_embedding=True`"):
        HaystackExampleSource(plain, EMBEDDER).find_examples([QUERY], 3, 0.5)
    for source in (
        HaystackExampleSource(plain, EMBEDDER, to_cosine=lambda score: score),
        HaystackExampleSource(scaled, EMBEDDER, to_cosine=lambda score: 2 * score - 1),
    ):
        assert source.find_examples([QUERY], 3, 0.57) == [[SLIPPING]]


def test_an_inner_product_is_not_taken_for_a_cosine():
    store = InMemoryDocumentStore()
    write(store, list(map(to_document, EXAMPLES)))
    source = HaystackExampleSource(InMemoryEmbeddingRetriever(store), EMBEDDER, to_cosine=lambda score: score)
    with pytest.raises(BackendError, match=r"`to_cosine` must return a cosine, in \[-1, 1\], got 13"):
        source.find_examples([QUERY], 3, 0.5)


def test_a_filter_keeps_other_documents_out(store):
    write(store, [Document(content=f"{QUERY} See page 3.", meta={"page": 3})])
    with pytest.raises(BackendError, match=r"no example, 'how do I stop .* got the keys \['page'\]"):
        source_over(store).find_examples([QUERY], 3, 0.5)
    source = source_over(store, filters={"field": "meta.page", "operator": "==", "value": None})
    assert source.find_examples([QUERY], 3, 0.5) == [[SLIPPING, NOISE]]


def test_a_document_without_content_is_no_example(store):
    store.write_documents(
        [Document(meta={"true_labels": ["Oil it."]}, embedding=store.filter_documents()[0].embedding)]
    )
    with pytest.raises(BackendError, match="no example, None: the text must be a string, got None"):
        source_over(store).find_examples([PLANTS.text], 4, -1.0)


def test_the_embedder_is_warmed_up_once_and_threads_find_the_same(store):
    embedder = BundledTextEmbedder()
    source = HaystackExampleSource(InMemoryEmbeddingRetriever(store, return_embedding=True), embedder)
    assert embedder.num_loads == 0
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda k: source.find_examples([QUERY], k, 0.5), [1, 2] * 8))
    assert found == [[[SLIPPING]], [[SLIPPING, NOISE]]] * 8
    assert embedder.num_loads == 1


def test_something_else_is_refused(store):
    with pytest.raises(ConfigError, match="`retriever` must be a component, got "):
        HaystackExampleSource(store, EMBEDDER)
    with pytest.raises(ConfigError, match="`text_embedder` must be a component, got "):
        HaystackExampleSource(InMemoryEmbeddingRetriever(store), ENCODER)


# In the ranker

CPU = ComponentDevice.from_str("cpu")
TEXTS = PASSAGES[:4]


@pytest.fixture
def source():
    store = InMemoryDocumentStore()
    write(store, list(map(to_document, EXAMPLES)))
    return source_over(store)


@pytest.fixture
def path(tmp_path):
    with ExampleStore(tmp_path / "judged.db") as ours:
        ours.add(EXAMPLES)
    return tmp_path / "judged.db"


def expected(*examples):
    """Best first, the scores of `TEXTS` with these examples."""
    return [hit.score for hit in shared_reranker().rank(QUERY, TEXTS, examples=examples)]


def documents():
    return [Document(content=text) for text in TEXTS]


def scores(ranker):
    return [document.score for document in ranker.run(QUERY, documents())["documents"]]


def pipeline_with(ranker, kind=Pipeline):
    store = InMemoryDocumentStore()
    store.write_documents(documents())
    pipeline = kind()
    pipeline.add_component("retriever", InMemoryBM25Retriever(store))
    pipeline.add_component("ranker", ranker)
    pipeline.connect("retriever", "ranker")
    return pipeline


def test_a_pipeline_shows_what_a_document_store_holds(source):
    pipeline = pipeline_with(GLiClassRanker(device=CPU, example_store=source))
    ranked = pipeline.run({"query": QUERY})["ranker"]["documents"]
    found = [document.content for document in pipeline.get_component("retriever").run(QUERY)["documents"]]
    by_core = shared_reranker().rank(QUERY, found, examples=[SLIPPING, NOISE])
    assert [document.score for document in ranked] == [hit.score for hit in by_core]
    answer = asyncio.run(GLiClassRanker(device=CPU, example_store=source).run_async(QUERY, documents()))
    assert [document.score for document in answer["documents"]] == expected(SLIPPING, NOISE) != expected()


@pytest.mark.parametrize("wrapped", [dict, lambda settings: Reranker(**settings)])
def test_how_many_and_how_similar_is_the_rerankers_to_say(source, wrapped):
    settings = {"device": "cpu", "example_store": source, "num_examples": 1}
    assert scores(GLiClassRanker(reranker=wrapped(settings))) == expected(SLIPPING)
    settings |= {"min_example_similarity": 0.95}
    assert scores(GLiClassRanker(reranker=wrapped(settings))) == expected()


def test_examples_given_by_hand_stand_in_for_the_stores(source):
    assert scores(GLiClassRanker(device=CPU, example_store=source, examples=[PLANTS])) == expected(PLANTS)
    assert scores(GLiClassRanker(device=CPU, example_store=source, examples=[])) == expected()


def test_a_tenant_is_shown_its_own_examples(tmp_path):
    with ExampleStore(tmp_path / "tenants.db") as ours:
        ours.add([SLIPPING], metadata=[{"tenant": "a"}])
        ours.add([NOISE], metadata=[{"tenant": "b"}])
    pipeline = pipeline_with(GLiClassRanker(device=CPU, example_store=tmp_path / "tenants.db"))
    ranker = pipeline.get_component("ranker")
    answer = ranker.run(QUERY, documents(), where={"tenant": "a"})
    assert [document.score for document in answer["documents"]] == expected(SLIPPING)
    answer = asyncio.run(ranker.run_async(QUERY, documents(), where={"tenant": "b"}))
    assert [document.score for document in answer["documents"]] == expected(NOISE)
    nobody = {"retriever": {"query": QUERY}, "ranker": {"query": QUERY, "where": {"tenant": "c"}}}
    found = [document.content for document in pipeline.get_component("retriever").run(QUERY)["documents"]]
    ranked = pipeline.run(nobody)["ranker"]["documents"]
    assert [document.score for document in ranked] == [hit.score for hit in shared_reranker().rank(QUERY, found)]


def test_a_path_travels(path):
    ranker = GLiClassRanker(device=CPU, example_store=path)
    assert scores(ranker) == expected(SLIPPING, NOISE)
    assert f"example_store: {path}\n" in pipeline_with(ranker).dumps()
    for again in (
        Pipeline.loads(pipeline_with(GLiClassRanker(device=CPU, example_store=path)).dumps()).get_component("ranker"),
        pickle.loads(pickle.dumps(GLiClassRanker(device=CPU, example_store=path))),
        GLiClassRanker(reranker={"device": "cpu", "example_store": path}),
        GLiClassRanker.from_dict(GLiClassRanker(reranker=Reranker(device="cpu", example_store=path)).to_dict()),
    ):
        assert scores(again) == expected(SLIPPING, NOISE)


@pytest.mark.parametrize(
    "wrapped", [dict, lambda settings: {"reranker": settings}, lambda settings: {"reranker": Reranker(**settings)}]
)
def test_an_object_does_not_travel(source, wrapped):
    ranker = GLiClassRanker(**wrapped({"example_store": source}))
    pipeline = pipeline_with(ranker)
    message = "an `example_store` that is an object cannot be pickled or written into settings; give the store's path"
    for travel in (pipeline.dumps, ranker.to_dict, lambda: pickle.dumps(ranker)):
        with pytest.raises(ConfigError, match=message):
            travel()


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy])
def test_copies_share_the_store(source, again):
    ranker = again(GLiClassRanker(device=CPU, example_store=source))
    assert ranker.example_store is source
    assert scores(ranker) == expected(SLIPPING, NOISE)


def test_a_store_that_is_down_keeps_the_order_on_request():
    @component
    class Down:
        @component.output_types(documents=list[Document])
        def run(self, query_embedding: list[float], top_k: int):
            raise ConnectionError("refused by localhost:6333")

    source = HaystackExampleSource(Down(), EMBEDDER)
    ranked = GLiClassRanker(device=CPU, example_store=source, on_error="keep_order").run(QUERY, documents())
    assert [document.content for document in ranked["documents"]] == [*TEXTS]
    message = "BackendError: the example store failed: ConnectionError: refused by localhost:6333"
    assert {document.meta["rerank_error"] for document in ranked["documents"]} == {message}
    with pytest.raises(BackendError, match="refused by localhost:6333"):
        GLiClassRanker(device=CPU, example_store=source).run(QUERY, documents())


def test_a_store_of_another_kind_is_refused():
    for wrong in (3, InMemoryDocumentStore(), HaystackExampleSource):
        with pytest.raises(ConfigError, match="`example_store` must be a path or have `find_examples`"):
            GLiClassRanker(example_store=wrong)
    with pytest.raises(ConfigError, match="`reranker` or `example_store`, not both"):
        GLiClassRanker(reranker={"device": "cpu"}, example_store="judged.db")
