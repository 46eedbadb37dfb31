"""What FAISS does beyond the contract: kinds by size, and when an index is built again."""

import sys

import numpy as np
import pytest
from rac_data import DIM, ArraySource, load, save, unit_vectors

from gliclass_rerank.errors import ConfigError, DataError, MissingDependencyError
from gliclass_rerank.examples import faiss_index
from gliclass_rerank.examples.backends import builder_of
from gliclass_rerank.examples.faiss_index import FaissBuilder, FaissIndex
from gliclass_rerank.examples.numpy_index import NumpyIndex

faiss = pytest.importorskip("faiss")


def source(count, dim=DIM):
    return ArraySource(np.arange(count), unit_vectors(count, dim=dim))


@pytest.fixture
def small_limits(monkeypatch):
    monkeypatch.setattr(faiss_index, "FLAT_VECTORS", 100)
    monkeypatch.setattr(faiss_index, "HNSW_VECTORS", 300)
    monkeypatch.setattr(faiss_index, "_MIN_DEAD", 10)


@pytest.mark.parametrize(("count", "kind"), [(0, "flat"), (100, "flat"), (101, "hnsw"), (300, "hnsw")])
def test_the_kind_is_chosen_by_size(small_limits, count, kind):
    assert FaissBuilder().build(source(count)).kind == kind


def test_many_vectors_are_compressed():
    index = FaissBuilder("ivf_pq").build(source(faiss_index.MIN_PQ_VECTORS))

    assert index.kind == "ivf_pq"
    assert FaissBuilder()._kind_for(faiss_index.HNSW_VECTORS + 1) == "ivf_pq"


def test_too_few_vectors_to_train_are_searched_exactly():
    builder = FaissBuilder("ivf_pq")
    index = builder.build(source(faiss_index.MIN_PQ_VECTORS - 1))

    assert index.kind == "flat"
    assert builder.suits(index)


def test_an_index_is_outgrown_at_twice_its_kinds_size(small_limits):
    builder = FaissBuilder()
    index = builder.build(source(100))

    index.add(np.arange(100, 200), unit_vectors(100, seed=4))
    assert builder.suits(index)
    index.add(np.arange(200, 203), unit_vectors(3, seed=5))
    assert not builder.suits(index)


@pytest.mark.parametrize("kind", ["flat", "hnsw"])
def test_an_index_of_which_a_quarter_is_dead_is_built_again(small_limits, kind):
    builder = FaissBuilder(kind)
    index = builder.build(source(100))

    index.remove(np.arange(25))
    assert builder.suits(index)
    index.remove(np.arange(25, 27))
    assert not builder.suits(index)
    assert (len(index), index.num_dead) == (73, 27)


def test_lists_that_have_grown_too_long_are_made_again(monkeypatch):
    monkeypatch.setattr(faiss_index, "_MAX_GROWTH", 1)
    builder = FaissBuilder("ivf_pq")
    index = builder.build(source(faiss_index.MIN_PQ_VECTORS))
    assert builder.suits(index)

    index.add(np.array([faiss_index.MIN_PQ_VECTORS]), unit_vectors(1))

    assert not builder.suits(index)


@pytest.mark.parametrize("dim", [1, 13])
def test_any_number_of_dimensions_can_be_compressed(dim):
    index = FaissBuilder("ivf_pq").build(source(faiss_index.MIN_PQ_VECTORS, dim))

    assert (index.kind, index.dim, len(index)) == ("ivf_pq", dim, faiss_index.MIN_PQ_VECTORS)


def test_an_index_by_distance_is_refused(tmp_path):
    by_distance = faiss.IndexHNSWFlat(DIM, 8)  # FAISS' default metric

    with pytest.raises(DataError, match="the index must go by inner product, its metric is 1"):
        FaissIndex("hnsw", by_distance, rows=np.zeros(0, np.int64), alive=np.zeros(0, bool), num_trained=0)


def test_parts_that_do_not_fit_each_other_are_refused():
    with pytest.raises(DataError, match="an index of 0 vectors cannot have 1 row numbers and 1 marks"):
        FaissIndex("flat", faiss.IndexFlatIP(DIM), rows=np.zeros(1, np.int64), alive=np.ones(1, bool), num_trained=0)


def test_an_unknown_kind_or_backend_is_refused():
    with pytest.raises(ConfigError, match="must be one of `flat`, `hnsw`, `ivf_pq`, got 'annoy'"):
        FaissBuilder("annoy")
    with pytest.raises(ConfigError, match=r"`backend` must be one of `auto`, .*, got 'annoy'"):
        builder_of("annoy")


def test_auto_is_numpy_for_few_and_faiss_for_many(monkeypatch, tmp_path):
    monkeypatch.setattr("gliclass_rerank.examples.backends.FLAT_VECTORS", 100)
    monkeypatch.setattr(faiss_index, "FLAT_VECTORS", 100)
    builder = builder_of("auto")

    small, large = builder.build(source(100)), builder.build(source(101))

    assert (small.kind, large.kind) == ("numpy", "hnsw")
    assert builder.suits(small)
    assert builder.suits(large)
    assert {load(builder, save(index, tmp_path / index.kind)).kind for index in (small, large)} == {"numpy", "hnsw"}
    small.add(np.arange(100, 203), unit_vectors(103, seed=6))
    assert not builder.suits(small)
    large.remove(np.arange(60))
    assert not builder.suits(large)


def test_without_faiss_auto_searches_with_numpy_and_says_so(monkeypatch, caplog):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("gliclass_rerank.examples.backends.FLAT_VECTORS", 100)

    index = builder_of("auto").build(source(101))

    assert isinstance(index, NumpyIndex)
    assert "faiss is not installed" in caplog.text


def test_without_faiss_its_backends_name_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)

    with pytest.raises(MissingDependencyError, match=r"'gliclass-rerank\[rac\]'"):
        builder_of("faiss")
