"""What every index must do, run on each of them."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from rac_data import DIM, ArraySource, load, save, unit_vectors

from gliclass_rerank.errors import DataError, InputError
from gliclass_rerank.examples.backends import builder_of
from gliclass_rerank.examples.faiss_index import MIN_PQ_VECTORS
from gliclass_rerank.examples.index_file import read_index_file

BACKENDS = ("numpy", "faiss_flat", "faiss_hnsw", "faiss_ivf_pq")
EXACT = ("numpy", "faiss_flat")
# Row numbers with gaps, so that a position taken for a row number shows.
FIRST, STEP = 1009, 7
NUM_QUERIES = 31


def built(backend, count):
    vectors = unit_vectors(count)
    rows = FIRST + STEP * np.arange(count)
    return builder_of(backend).build(ArraySource(rows, vectors)), rows, vectors


@pytest.fixture(scope="module", params=BACKENDS)
def backend(request):
    if request.param != "numpy":
        pytest.importorskip("faiss")
    return request.param


@pytest.fixture(scope="module")
def saved(backend, tmp_path_factory):
    index, rows, vectors = built(backend, MIN_PQ_VECTORS if backend == "faiss_ivf_pq" else 503)
    return save(index, tmp_path_factory.mktemp("index") / backend), rows, vectors


@pytest.fixture
def held(backend, saved):
    """An index of its own for a test, with its row numbers and vectors."""
    path, rows, vectors = saved
    return load(builder_of(backend), path), rows, vectors


def queries():
    return unit_vectors(NUM_QUERIES, seed=1)


def nearest(rows, vectors, query, k):
    scores = vectors.astype(np.float64) @ query.astype(np.float64)
    return rows[np.lexsort((rows, -scores))[:k]].tolist()


def assert_same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.rows.tolist() == other.rows.tolist()
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-6)  # sums in another order


def test_the_nearest_are_found_within_the_oversampling(held):
    index, rows, vectors = held

    found = index.search(queries(), 3 * index.oversampling)

    hits = [
        len(set(nearest(rows, vectors, query, 3)) & set(neighbours.rows.tolist()))
        for query, neighbours in zip(queries(), found, strict=True)
    ]
    assert sum(hits) >= 0.95 * 3 * NUM_QUERIES


def test_an_exact_index_finds_exactly_the_nearest(held, backend):
    if backend not in EXACT:
        pytest.skip("approximate")
    index, rows, vectors = held

    for query, found in zip(queries(), index.search(queries(), 11), strict=True):
        assert found.rows.tolist() == nearest(rows, vectors, query, 11)
        np.testing.assert_allclose(found.scores, vectors[(found.rows - FIRST) // STEP] @ query, atol=1e-6)


def test_results_are_ordered_known_and_distinct(held):
    index, rows, _ = held

    for found in index.search(queries(), 41):
        assert 0 < len(found.rows) == len(found.scores) <= 41
        assert set(found.rows.tolist()) <= set(rows.tolist())
        assert len(set(found.rows.tolist())) == len(found.rows)
        assert (np.diff(found.scores) <= 0).all()


def test_more_neighbours_than_there_are_is_all_there_are_and_never_minus_one(held, backend):
    index, rows, _ = held

    for found in index.search(queries()[:3], len(rows) + 5):
        assert set(found.rows.tolist()) <= set(rows.tolist())
        assert backend not in EXACT or len(found.rows) == len(rows)


def test_an_empty_index_finds_nothing(backend):
    index = builder_of(backend).build(ArraySource([], np.zeros((0, DIM), dtype=np.float32)))

    assert len(index) == 0
    assert [len(found.rows) for found in index.search(queries()[:2], 3)] == [0, 0]
    assert len(index.rows()) == 0


def test_no_queries_have_no_results(held):
    assert held[0].search(np.zeros((0, DIM), dtype=np.float32), 3) == []


def test_what_is_removed_is_not_found_and_the_rest_is(held):
    index, rows, vectors = held
    gone, stay = rows[::2], rows[1::2]

    assert index.remove(gone) == len(gone)

    assert len(index) == len(stay)
    assert index.rows().tolist() == stay.tolist()
    found = index.search(queries(), 3 * index.oversampling)
    assert not set(np.concatenate([one.rows for one in found]).tolist()) & set(gone.tolist())
    hits = [
        len(set(nearest(stay, vectors[1::2], query, 3)) & set(one.rows.tolist()))
        for query, one in zip(queries(), found, strict=True)
    ]
    assert sum(hits) >= 0.95 * 3 * NUM_QUERIES


def test_removing_passes_over_what_is_not_there(held):
    index, rows, _ = held

    assert index.remove(np.array([3, rows[4], rows[4], rows[-1] + 99])) == 1
    assert index.remove(rows[4:5]) == 0
    assert index.remove(np.zeros(0, dtype=np.int64)) == 0
    assert len(index) == len(rows) - 1


def test_everything_can_be_removed_and_more_added(held):
    index, rows, vectors = held

    index.remove(rows)

    assert len(index) == 0
    assert [len(found.rows) for found in index.search(queries(), 3)] == [0] * NUM_QUERIES
    index.add(rows[-1:] + 1, vectors[:1])
    assert [found.rows.tolist() for found in index.search(vectors[:1], 3)] == [[rows[-1] + 1]]


def test_what_is_added_is_found(held):
    index, rows, _ = held
    new = unit_vectors(5, seed=2)

    index.add(rows[-1] + 1 + np.arange(5), new)

    assert len(index) == len(rows) + 5
    best = [found.rows.tolist() for found in index.search(new, index.oversampling)]
    assert all(rows[-1] + 1 + number in found for number, found in enumerate(best))


def test_adding_nothing_changes_nothing(held):
    index, rows, _ = held

    index.add(np.zeros(0, dtype=np.int64), np.zeros((0, DIM), dtype=np.float32))

    assert index.rows().tolist() == rows.tolist()


@pytest.mark.parametrize(
    ("offsets", "shape", "message"),
    [
        ([1, 2], (2, DIM + 1), r"vectors must have the shape \[num_vectors, 16\], got \[2, 17\]"),
        ([1], (DIM,), r"vectors must have the shape \[num_vectors, 16\], got \[16\]"),
        ([1, 2, 3], (2, DIM), r"every vector needs one row number, got \(3,\) for 2 vectors"),
        ([0, 1], (2, DIM), "row numbers must ascend and never come twice"),
        ([2, 1], (2, DIM), "row numbers must ascend and never come twice"),
        ([1, 1], (2, DIM), "row numbers must ascend and never come twice"),
    ],
)
def test_what_cannot_be_added_is_refused_and_changes_nothing(held, offsets, shape, message):
    index, rows, _ = held
    before = index.search(queries(), 5)

    with pytest.raises(InputError, match=message):
        index.add(rows[-1] + np.array(offsets), np.ones(shape, dtype=np.float32))

    assert index.rows().tolist() == rows.tolist()
    assert_same(index.search(queries(), 5), before)


def test_row_numbers_of_what_was_removed_are_not_used_again(held):
    index, rows, vectors = held
    index.remove(rows[-1:])

    with pytest.raises(InputError, match="never come twice"):
        index.add(rows[-1:], vectors[-1:])


def test_row_numbers_must_be_of_64_bits(held):
    index, rows, vectors = held

    with pytest.raises(InputError, match="row numbers must be int64, got int32"):
        index.add((rows[-1:] + 1).astype(np.int32), vectors[:1])


@pytest.mark.parametrize("shape", [(2, DIM - 1), (DIM,), (1, 2, DIM)])
def test_queries_of_another_shape_are_refused(held, shape):
    with pytest.raises(InputError, match=r"vectors must have the shape \[num_vectors, 16\]"):
        held[0].search(np.ones(shape, dtype=np.float32), 3)


def test_no_neighbours_cannot_be_asked_for(held):
    with pytest.raises(InputError, match="`k` must be at least 1, got 0"):
        held[0].search(queries(), 0)


def test_queries_together_find_what_each_finds_alone(held):
    index, _, _ = held
    alone = [index.search(query[None], 5)[0] for query in queries()]

    assert_same(index.search(queries(), 5), alone)


def test_vectors_given_are_not_changed_and_may_change_later(held):
    index, rows, _ = held
    new, asked = unit_vectors(1, seed=3), unit_vectors(1, seed=3)
    index.add(rows[-1:] + 1, new)

    new[:] = 0
    before = asked.copy()
    (found,) = index.search(asked, index.oversampling)

    assert rows[-1] + 1 in found.rows
    assert (asked == before).all()


def test_rows_are_the_callers_to_change(held):
    index, rows, _ = held

    index.rows()[:] = 0

    assert index.rows().tolist() == rows.tolist()


def test_an_index_read_back_is_the_same_and_goes_on(held, backend, tmp_path):
    index, rows, vectors = held
    index.remove(rows[5:77])
    index.add(rows[-1:] + 1, vectors[5:6])

    again = load(builder_of(backend), save(index, tmp_path / "index"))

    assert (again.kind, again.dim, len(again)) == (index.kind, index.dim, len(index))
    assert again.rows().tolist() == index.rows().tolist()
    assert_same(again.search(queries(), 7), index.search(queries(), 7))
    with pytest.raises(InputError, match="never come twice"):
        again.add(rows[-1:] + 1, vectors[:1])
    again.add(rows[-1:] + 2, vectors[7:8])
    assert len(again) == len(index) + 1


def test_a_last_row_that_was_removed_is_remembered_in_the_file(held, backend, tmp_path):
    index, rows, vectors = held
    index.remove(rows[-1:])

    again = load(builder_of(backend), save(index, tmp_path / "index"))

    with pytest.raises(InputError, match="never come twice"):
        again.add(rows[-1:], vectors[-1:])


def test_a_built_index_suits_its_builder(held, backend):
    assert builder_of(backend).suits(held[0])


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "text"])
def test_a_broken_file_is_refused(saved, tmp_path, damage):
    raw = bytearray(saved[0].read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    path = tmp_path / "index"
    path.write_bytes({"flipped": raw, "cut": raw[: len(raw) // 2], "empty": b"", "text": b"no index"}[damage])

    with pytest.raises(DataError, match=r"the index `.*` (is broken|cannot be read)"), read_index_file(path):
        pass


def test_an_index_of_another_backend_is_refused(saved, backend):
    pytest.importorskip("faiss")
    other = builder_of("faiss" if backend == "numpy" else "numpy")

    with pytest.raises(DataError, match="the index is of the kind"):
        load(other, saved[0])


def test_threads_search_at_once(held):
    index, _, _ = held
    expected = index.search(queries(), 5)

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: index.search(queries(), 5), range(40)))

    for found in results:
        assert_same(found, expected)
