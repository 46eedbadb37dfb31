"""Judged examples in a vector store of LangChain's, found with the bundled encoder, and shown by the reranker."""

import asyncio
import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import InMemoryVectorStore, VectorStore
from langchain_gliclass import GLiClassRerank, GLiClassRerankRetriever, LangChainExampleSource, to_document
from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from gliclass_rerank import BackendError, ConfigError, Example, InputError, Reranker
from gliclass_rerank.examples import ExampleStore, LocalEncoder
from gliclass_rerank.testing import QUERY, shared_reranker

SLIPPING = Example("my bike chain keeps slipping", ["Replace chain and cassette."], ["Pump the tyres."])
NOISE = Example("the chain of my bicycle makes a noise", ["Oil it."])
PLANTS = Example("how do plants feed themselves?", [], ["Bears sleep."])
EXAMPLES = (PLANTS, NOISE, SLIPPING)


ENCODER = LocalEncoder()


class BundledEmbeddings(Embeddings):
    def __init__(self):
        self.num_embedded = 0

    def embed_documents(self, texts):
        self.num_embedded += len(texts)
        return ENCODER.encode(texts).tolist()

    def embed_query(self, text):
        return self.embed_documents([text])[0]


@pytest.fixture
def store():
    made = InMemoryVectorStore(BundledEmbeddings())
    made.add_documents(list(map(to_document, EXAMPLES)))
    made.embeddings.num_embedded = 0
    return made


class Elsewhere(VectorStore):
    """What an integration may be at least: it searches by text, and says neither scores nor how it embeds."""

    def __init__(self, store):
        self.store = store

    def similarity_search(self, query, k=4, **kwargs):
        return self.store.similarity_search(query, k=k, **kwargs)

    @classmethod
    def from_texts(cls, texts, embedding, metadatas=None, **kwargs):
        return cls(InMemoryVectorStore.from_texts(texts, embedding, metadatas, **kwargs))


def test_a_document_holds_the_example():
    document = to_document(SLIPPING.to_dict())
    assert document.page_content == SLIPPING.text
    assert document.metadata == {
        "true_labels": '["Replace chain and cassette."]',
        "false_labels": '["Pump the tyres."]',
    }


@pytest.mark.parametrize("least", [-1.0, 0.3, 0.56, 0.57, 0.95])
def test_it_finds_what_our_own_store_finds(store, least):
    with ExampleStore(None, ENCODER) as ours:
        ours.add(EXAMPLES)
        expected = [found.example for found in ours.search(QUERY, 2, least)]
    assert LangChainExampleSource(store).find_examples([QUERY, "opening hours"], 2, least)[0] == expected


def test_it_leaves_out_the_query_itself_unless_asked(store):
    store.add_documents([to_document(Example(f"  {QUERY.upper()} ", ["leak"]))])
    source = LangChainExampleSource(store)
    assert source.find_examples([QUERY], 2, 0.5) == [[SLIPPING, NOISE]]
    assert source.find_examples([QUERY], 1, 0.5, allow_equal=True)[0][0].true_labels == ("leak",)


def test_a_store_whose_score_is_a_cosine_needs_no_more_embeddings(store):
    source = LangChainExampleSource(store, to_cosine=lambda score: score)
    assert source.find_examples([QUERY], 3, 0.5) == [[SLIPPING, NOISE]]
    assert store.embeddings.num_embedded == 1  # the query, in the search
    store.embeddings.num_embedded = 0
    assert LangChainExampleSource(store).find_examples([QUERY], 1, 0.5) == [[SLIPPING]]
    assert store.embeddings.num_embedded == 3  # query, query in the search, document


def test_any_vector_store_will_do(store):
    elsewhere = Elsewhere(store)
    found = LangChainExampleSource(elsewhere, embeddings=store.embeddings).find_examples([QUERY], 3, 0.5)
    assert found == [[SLIPPING, NOISE]]
    with pytest.raises(ConfigError, match="`Elsewhere` has no `embeddings`; pass them, or pass `to_cosine`"):
        LangChainExampleSource(elsewhere)
    with pytest.raises(BackendError, match="NotImplementedError"):
        LangChainExampleSource(elsewhere, to_cosine=float).find_examples([QUERY], 3, 0.5)


def test_a_filter_keeps_other_documents_out(store):
    store.add_documents([Document(f"{QUERY} See page 3.", metadata={"page": 3})])
    with pytest.raises(BackendError, match=r"no example, 'how do I stop .* got the keys \['page'\]"):
        LangChainExampleSource(store).find_examples([QUERY], 3, 0.5)
    is_example = {"filter": lambda document: "true_labels" in document.metadata}
    source = LangChainExampleSource(store, search_kwargs=is_example)
    assert source.find_examples([QUERY], 3, 0.5) == [[SLIPPING, NOISE]]


def test_a_dumped_store_is_searched_as_before(store, tmp_path):
    store.dump(str(tmp_path / "store.json"))
    loaded = InMemoryVectorStore.load(str(tmp_path / "store.json"), BundledEmbeddings())
    assert LangChainExampleSource(loaded).find_examples([QUERY], 3, 0.5) == [[SLIPPING, NOISE]]


def test_threads_and_pickles_find_the_same(store):
    source = LangChainExampleSource(store)
    again = pickle.loads(pickle.dumps(source))
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda one: one.find_examples([QUERY], 3, 0.5), [source, again] * 8))
    assert found == [[[SLIPPING, NOISE]]] * 16


def test_something_else_is_refused(store):
    with pytest.raises(ConfigError, match="`vector_store` must be a `VectorStore`, got "):
        LangChainExampleSource(store.as_retriever())


# In the reranker


@pytest.fixture
def expected(found):
    """Best first, the scores of `found` with these examples."""

    def scores(*examples):
        texts = [document.page_content for document in found if document.page_content.strip()]
        return [hit.score for hit in shared_reranker().rank(QUERY, texts, examples=examples)]

    return scores


@pytest.fixture
def path(tmp_path):
    with ExampleStore(tmp_path / "judged.db") as ours:
        ours.add(EXAMPLES)
    return tmp_path / "judged.db"


def scores(documents):
    return [document.metadata["relevance_score"] for document in documents if document.page_content.strip()]


def test_a_retriever_shows_what_a_vector_store_holds(store, base, expected):
    reranker = GLiClassRerank(device="cpu", example_store=LangChainExampleSource(store))
    retriever = GLiClassRerankRetriever(base_retriever=base, reranker=reranker)
    assert scores(retriever.invoke(QUERY)) == expected(SLIPPING, NOISE)
    assert scores(asyncio.run(retriever.ainvoke(QUERY))) == expected(SLIPPING, NOISE)
    assert expected(SLIPPING, NOISE) != expected()


@pytest.mark.parametrize("wrapped", [dict, lambda settings: Reranker(**settings)])
def test_how_many_and_how_similar_is_the_rerankers_to_say(store, found, expected, wrapped):
    settings = {"device": "cpu", "example_store": LangChainExampleSource(store), "num_examples": 1}
    assert scores(GLiClassRerank(reranker=wrapped(settings)).rerank(found, QUERY)) == expected(SLIPPING)
    settings |= {"min_example_similarity": 0.95}
    assert scores(GLiClassRerank(reranker=wrapped(settings)).rerank(found, QUERY)) == expected()


def test_examples_given_by_hand_stand_in_for_the_stores(store, found, expected):
    source = LangChainExampleSource(store)
    reranker = GLiClassRerank(device="cpu", example_store=source, examples=[PLANTS])
    assert scores(reranker.rerank(found, QUERY)) == expected(PLANTS)
    assert scores(reranker.model_copy(update={"examples": []}).rerank(found, QUERY)) == expected()


@pytest.fixture
def tenants(tmp_path):
    with ExampleStore(tmp_path / "tenants.db") as ours:
        ours.add([SLIPPING], metadata=[{"tenant": "a"}])
        ours.add([NOISE], metadata=[{"tenant": "b"}])
    return tmp_path / "tenants.db"


def test_a_tenant_is_shown_its_own_examples(tenants, found, expected):
    reranker = GLiClassRerank(device="cpu", example_store=tenants)
    assert scores(reranker.rerank(found, QUERY, where={"tenant": "a"})) == expected(SLIPPING)
    assert scores(asyncio.run(reranker.arerank(found, QUERY, where={"tenant": "b"}))) == expected(NOISE)
    of_a = reranker.model_copy(update={"where": {"tenant": "a"}})
    assert scores(of_a.compress_documents(found, QUERY)) == expected(SLIPPING)
    assert of_a._stage is reranker._stage
    with pytest.raises(InputError, match=r"`where` must be a mapping"):
        reranker.rerank(found, QUERY, where=3)


def test_a_path_travels(path, found, expected):
    reranker = GLiClassRerank(device="cpu", example_store=path)
    assert scores(reranker.rerank(found, QUERY)) == expected(SLIPPING, NOISE)
    assert reranker.model_dump()["example_store"] == str(path)
    for again in (
        pickle.loads(pickle.dumps(reranker)),
        GLiClassRerank.model_validate_json(reranker.model_dump_json()),
        GLiClassRerank(reranker={"device": "cpu", "example_store": path}),
        pickle.loads(pickle.dumps(GLiClassRerank(reranker=Reranker(device="cpu", example_store=path)))),
    ):
        assert scores(again.rerank(found, QUERY)) == expected(SLIPPING, NOISE)


@pytest.mark.parametrize(
    "wrapped", [dict, lambda settings: {"reranker": settings}, lambda settings: {"reranker": Reranker(**settings)}]
)
def test_an_object_does_not_travel(store, wrapped):
    reranker = GLiClassRerank(**wrapped({"example_store": LangChainExampleSource(store)}))
    message = "an `example_store` that is an object cannot be pickled or written into settings; give the store's path"
    with pytest.raises(ConfigError, match=message):
        pickle.dumps(reranker)
    for dump in (reranker.model_dump, reranker.model_dump_json):
        with pytest.raises(PydanticSerializationError, match=message):
            dump()


def test_copies_share_the_store(store, found, expected):
    reranker = GLiClassRerank(device="cpu", example_store=LangChainExampleSource(store))
    for copied in (copy.copy(reranker), copy.deepcopy(reranker), reranker.model_copy(update={"top_n": 2}, deep=True)):
        assert copied.example_store is reranker.example_store
        assert scores(copied.rerank(found, QUERY)) == expected(SLIPPING, NOISE)[: copied.top_n]


def test_a_store_that_is_down_keeps_the_order_on_request(found):
    class Down(Elsewhere):
        def similarity_search(self, query, k=4, **kwargs):
            raise ConnectionError("refused by localhost:6333")

    source = LangChainExampleSource(Down(None), embeddings=BundledEmbeddings())
    ranked = GLiClassRerank(device="cpu", example_store=source, on_error="keep_order").rerank(found, QUERY)
    assert [document.id for document in ranked] == [document.id for document in found]
    message = "BackendError: the example store failed: ConnectionError: refused by localhost:6333"
    assert {document.metadata["rerank_error"] for document in ranked} == {message}
    with pytest.raises(BackendError, match="refused by localhost:6333"):
        GLiClassRerank(device="cpu", example_store=source).rerank(found, QUERY)


def test_a_store_of_another_kind_is_refused(store):
    for wrong in (3, store, LangChainExampleSource):
        with pytest.raises(ValidationError, match="`example_store` must be a path or have `find_examples`"):
            GLiClassRerank(example_store=wrong)
    with pytest.raises(ValidationError, match="`reranker` or `example_store`, not both"):
        GLiClassRerank(reranker={"device": "cpu"}, example_store="judged.db")
