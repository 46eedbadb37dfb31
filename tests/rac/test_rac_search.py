"""The index proposes, the records decide: filters, and indexes that miss things."""

import numpy as np
import pytest
from rac_data import DIM, ArraySource, unit_vectors

from gliclass_rerank import Example
from gliclass_rerank.examples.cached_index import CachedIndex
from gliclass_rerank.examples.changes import Change
from gliclass_rerank.examples.filters import Filter, make_filter
from gliclass_rerank.examples.index import Neighbours
from gliclass_rerank.examples.numpy_index import NumpyBuilder
from gliclass_rerank.examples.records import Records
from gliclass_rerank.examples.rows import Identity, NewRecord, metadata_text
from gliclass_rerank.examples.search import Question, answer

COUNT = 2903
SHOPS = ("north", "south", "east")


class PoorIndex:
    """Finds only every `visible`-th row, at most `most` of them, and gives them wrong scores."""

    oversampling, kind, is_quick_to_build = 1, "poor", True

    def __init__(self, exact, visible, most):
        self._exact, self._visible, self._most = exact, visible, most
        self.dim = exact.dim
        self.depths = []

    def __len__(self):
        return len(self._exact)

    def search(self, vectors, k):
        self.depths.append(k)
        found = self._exact.search(vectors, len(self))
        kept = [one.rows[one.rows % self._visible == 0][: min(k, self._most)] for one in found]
        return [Neighbours(np.zeros(len(rows), dtype=np.float32), rows[::-1]) for rows in kept]


class PoorBuilder:
    def __init__(self, visible=1, most=10**9):
        self._options = visible, most

    def build(self, source):
        return PoorIndex(NumpyBuilder().build(source), *self._options)

    def suits(self, index):
        return True


@pytest.fixture(scope="module")
def records():
    made = Records(None)
    vectors = unit_vectors(COUNT, num_clusters=3)
    made.adopt(Identity("encoder", vectors[0]))
    made.write(
        Change(
            [
                NewRecord(
                    f"{number:05}",
                    Example(f"text {number}"),
                    metadata_text("m", {"shop": SHOPS[number % 3], "n": number}),
                )
                for number in range(COUNT)
            ],
            vectors,
        )
    )
    yield made
    made.close()


@pytest.fixture(scope="module")
def vectors():
    return unit_vectors(COUNT, num_clusters=3)


def expected(vectors, query, k, least, accepts=lambda number: True):
    scores = np.round(vectors.astype(np.float64) @ query.astype(np.float64), 6)
    fitting = [(-score, number) for number, score in enumerate(scores) if score >= least and accepts(number)]
    return [f"{number:05}" for _, number in sorted(fitting)[:k]]


def searched(records, builder, queries, k, least, filter_):
    index = CachedIndex(records, builder, path=None, read_only=False)
    found = answer(index, records, [Question(query, k, least, filter_) for query in queries])
    return [[one.id for one in answers] for answers in found], index


FILTERS = [
    (make_filter(None, (), None), lambda number: True),
    (make_filter({"shop": "south"}, (), None), lambda number: number % 3 == 1),
    (make_filter({"shop": "south", "n": 1504.0}, (), None), lambda number: number == 1504),
    (make_filter(lambda metadata: metadata["n"] % 701 == 5, (), None), lambda number: number % 701 == 5),
    (make_filter({"shop": "west"}, (), None), lambda number: False),
    (make_filter(None, [f"{n:05}" for n in range(0, COUNT, 2)], None), lambda number: number % 2),
]


@pytest.mark.parametrize(("filter_", "accepts"), FILTERS, ids=["none", "third", "one", "few", "nobody", "excluded"])
@pytest.mark.parametrize("least", [-1, 0.5, 0.9])
@pytest.mark.parametrize("k", [1, 3, 53])
def test_a_filtered_search_finds_as_many_as_there_are(records, vectors, filter_, accepts, least, k):
    queries = unit_vectors(3, seed=9, num_clusters=3)

    found, _ = searched(records, NumpyBuilder(), queries, k, least, filter_)

    assert found == [expected(vectors, query, k, least, accepts) for query in queries]


def test_everything_is_found_when_more_is_asked_for_than_there_is(records, vectors):
    found, _ = searched(records, NumpyBuilder(), vectors[:1], COUNT + 7, -1, Filter())

    assert found == [expected(vectors, vectors[0], COUNT, -1)]


def test_an_index_that_scores_wrongly_is_corrected(records, vectors):
    found, index = searched(records, PoorBuilder(), vectors[:3], 3, -1, Filter())

    assert found == [expected(vectors, query, 3, -1) for query in vectors[:3]]
    assert index.using(lambda held: held.depths) == [32]


def test_a_selective_filter_looks_deeper_before_it_looks_at_everything(records, vectors):
    rare, accepts = FILTERS[3]

    found, index = searched(records, PoorBuilder(), vectors[:1], 3, -1, rare)

    assert found == [expected(vectors, vectors[0], 3, -1, accepts)]
    assert index.using(lambda held: held.depths) == [32, 128, 512, 2048]


def test_a_threshold_ends_the_search(records, vectors):
    nothing_fits, _ = FILTERS[4]

    _, index = searched(records, PoorBuilder(), vectors[:1], 3, 0.95, nothing_fits)

    assert index.using(lambda held: held.depths) == [32]


def test_an_index_that_has_nothing_more_to_propose_is_not_asked_again(records, vectors):
    some, accepts = FILTERS[1]

    found, index = searched(records, PoorBuilder(most=20), vectors[:2], 30, -1, some)

    assert found == [expected(vectors, query, 30, -1, accepts) for query in vectors[:2]]
    assert index.using(lambda held: held.depths) == [60]


def test_an_index_that_hides_all_but_a_few_still_gives_as_many_as_were_asked_for(records):
    (found,), _ = searched(records, PoorBuilder(visible=1000), unit_vectors(1, seed=9), 3, -1, Filter())

    assert len(found) == 3


def test_a_filter_may_use_the_store(store):
    store.add([Example("the chain")] * 3, ids=["a", "b", "c"], metadata=[{"n": n} for n in range(3)])

    def where(metadata):
        if "new" not in store:
            store.add([Example("new")], ids=["new"])
        return len(store.search("the chain")) == 3 and metadata["n"] > 0

    assert [found.id for found in store.search("the chain", where=where)] == ["b", "c"]


def test_what_a_filter_raises_comes_out(store):
    store.add([Example("the chain")])

    with pytest.raises(KeyError, match="shop"):
        store.search("the chain", where=lambda metadata: metadata["shop"])


@pytest.mark.parametrize(
    ("where", "metadata", "holds"),
    [
        ({}, {}, True),
        ({"a": 1}, {"a": 1, "b": 2}, True),
        ({"a": 1}, {"a": 1.0}, True),
        ({"a": 1}, {"a": "1"}, False),
        ({"a": None}, {}, False),
        ({"a": None}, {"a": None}, True),
        ({"a": ["x"]}, {"a": ["x"]}, True),
        ({"a": 'é"\\'}, {"a": 'é"\\'}, True),
        ({"a": "x"}, {"b": {"a": "x"}}, False),
        ({"a": "x", "b": "y"}, {"a": "x"}, False),
    ],
)
def test_a_mapping_compares_values(where, metadata, holds):
    made = make_filter(where, (), None)

    assert made.where(metadata) is holds
    if holds:  # the database must not pass over it
        assert all(fragment in metadata_text("m", metadata) for fragment in made.fragments)


@pytest.mark.parametrize("text", ["How do Plants feed?", "  how do\nplants   feed? ", "HOW DO PLANTS FEED\uff1f"])
def test_a_text_is_left_out_however_it_is_written(store, text):
    store.add([Example("how do plants feed?"), Example("how do bears feed?")], ids=["plants", "bears"])

    found = store.search("how do plants feed?", exclude_text=text, min_similarity=-1)

    assert [one.id for one in found] == ["bears"]


def test_leaving_out_does_not_cost_a_place(store):
    store.add([Example("a b c")] * 40 + [Example("a b d")], ids=[f"{n:02}" for n in range(41)])

    assert [one.id for one in store.search("a b c", k=1, exclude_text="a b c", min_similarity=-1)] == ["40"]
    assert [
        one.id for one in store.search("a b c", k=2, exclude_ids={f"{n:02}" for n in range(39)}, min_similarity=-1)
    ] == ["39", "40"]


def test_the_source_of_an_index_is_the_records(records, vectors):
    rows = records.rows()
    chunks = list(records.chunks())

    assert len(records) == len(rows) == COUNT
    assert records.dim == DIM
    assert np.concatenate([part for part, _ in chunks]).tolist() == rows.tolist()
    assert (np.concatenate([part for _, part in chunks]) == vectors).all()
    assert records.sample(11).shape == (11, DIM)
    assert (records.sample(11) == records.sample(11)).all()
    assert records.sample(COUNT + 1).shape == (COUNT, DIM)
    assert ArraySource(rows, vectors).dim == DIM
