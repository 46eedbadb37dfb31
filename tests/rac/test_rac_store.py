"""What a store does, in memory: it is the same on the disk (`test_rac_store_file.py`)."""

import math
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from rac_data import DIM, ENCODER, bag_of_words, table_encoder, word_vector

from gliclass_rerank import Example
from gliclass_rerank.errors import BackendError, InputError
from gliclass_rerank.examples import CallableEncoder, ExampleStore, Found, Stored

CHAIN = Example("the chain slips", ["oil the chain"], ["raise the saddle"])
BRAKE = Example("the brakes squeal", ["clean the rim"])
SADDLE = Example("the saddle is too low", [], ["oil the chain"])


def ids_of(found):
    return [one.id for one in found]


@pytest.fixture
def filled(store):
    store.add(
        [CHAIN, BRAKE, SADDLE],
        ids=["chain", "brake", "saddle"],
        metadata=[{"shop": "north", "year": 2020}, {"shop": "south", "year": 2021}, None],
    )
    return store


def contents(store):
    return {stored.id: (stored.example, stored.metadata) for stored in store}


def test_an_example_comes_back_as_it_was_put_in(filled):
    assert filled.get("chain") == Stored("chain", CHAIN, {"shop": "north", "year": 2020})
    assert filled.get("saddle") == Stored("saddle", SADDLE, {})
    assert contents(filled)["brake"] == (BRAKE, {"shop": "south", "year": 2021})
    assert [stored.id for stored in filled] == ["chain", "brake", "saddle"]
    assert len(filled) == 3


def test_any_text_and_any_json_come_back_as_they_were(store):
    example = Example("naïve \x00 日本語 🚲 <<LABEL>>", ["", "two\nlines", 'quo"te'], ["'; DROP TABLE examples; --"])
    metadata = {"": None, "nested": {"a": [1, 2.5, True, "é"]}, "big": 2**70}

    store.add([example], ids=['it\'s "é" 🚲'], metadata=[metadata])

    assert store.get('it\'s "é" 🚲') == Stored('it\'s "é" 🚲', example, metadata)


def test_an_example_is_found_by_its_own_text(filled):
    assert filled.search("the brakes squeal", k=1) == [
        Found("brake", BRAKE, 1.0, {"shop": "south", "year": 2021}),
    ]


def test_similarity_is_the_cosine_of_the_texts_vectors(filled):
    one, other = bag_of_words(["the saddle is too low", "the saddle squeals"]).tolist()
    cosine = np.dot(one, other) / math.dist(one, [0] * DIM) / math.dist(other, [0] * DIM)

    found = {hit.id: hit.similarity for hit in filled.search("the saddle squeals", min_similarity=-1)}

    assert found["saddle"] == pytest.approx(cosine, abs=1e-6)


def test_only_what_is_similar_enough_is_found(filled):
    everything = filled.search("the chain", k=3, min_similarity=-1)

    threshold = everything[1].similarity
    assert ids_of(filled.search("the chain", min_similarity=threshold)) == ids_of(everything[:2])
    assert ids_of(filled.search("the chain", min_similarity=threshold + 1e-6)) == ids_of(everything[:1])


def test_a_mapping_is_read_as_an_example(store):
    store.add([{"text": "a", "all_labels": ["x", "y"], "true_labels": ["x"]}], ids=["one"])

    assert store.get("one").example == Example("a", ["x"], ["y"])


def test_ids_that_nobody_gave_ascend_in_the_order_of_adding(store):
    ids = store.add([CHAIN, BRAKE]) + store.add([SADDLE])

    assert ids == sorted(set(ids))
    assert [store.get(name).example for name in ids] == [CHAIN, BRAKE, SADDLE]


def test_equal_similarities_are_ordered_by_id(store):
    store.add([CHAIN] * 5, ids=["d", "a", "c", "e", "b"])

    assert ids_of(store.search("the chain slips", k=3)) == ["a", "b", "c"]


def test_ties_by_id_hold_however_many_there_are(store):
    names = [f"{number:04}" for number in range(3000)]
    store.add([CHAIN] * 3000, ids=names[::-1])

    assert ids_of(store.search("the chain slips", k=2)) == ["0000", "0001"]


def test_a_vector_searches_like_the_text_it_is_of(filled):
    vector = sum(word_vector(word) for word in ("the", "chain", "slips"))

    assert filled.search(vector) == filled.search("the chain slips")
    assert filled.search(100 * vector.astype(np.float32)) == filled.search("the chain slips")


def test_many_searches_are_each_of_them(filled):
    queries = ["the chain", "squeal", "low", "a saddle"]

    together = filled.search_many(queries, k=2, min_similarity=0.1, exclude_texts=[None, None, SADDLE.text, None])

    alone = [
        filled.search(query, k=2, min_similarity=0.1, exclude_text=SADDLE.text if query == "low" else None)
        for query in queries
    ]
    assert together == alone
    assert filled.search_many([]) == []
    assert filled.search_many(np.ones((0, DIM))) == []


def test_an_empty_store_finds_nothing(store):
    assert len(store) == 0
    assert list(store) == []
    assert store.search("the chain", min_similarity=-1) == []
    assert store.add([]) == []


def test_membership_is_by_id(filled):
    assert "chain" in filled
    assert "the chain slips" not in filled
    assert 3 not in filled


def test_what_is_deleted_is_gone(filled):
    assert filled.delete(["chain", "nothing"]) == 1
    assert filled.delete([]) == 0

    assert "chain" not in filled
    assert len(filled) == 2
    assert "chain" not in ids_of(filled.search("the chain slips", min_similarity=-1))
    filled.add([BRAKE], ids=["chain"])
    assert ids_of(filled.search("the brakes squeal", k=2)) == ["brake", "chain"]


def test_an_update_replaces_text_labels_and_metadata(filled):
    moved = Example("the bell is silent", ["hit it"])

    filled.update(["chain", "brake"], [moved, Example(BRAKE.text, ["new pads"])], metadata=[{"shop": "east"}, None])

    assert filled.get("chain") == Stored("chain", moved, {"shop": "east"})
    assert filled.get("brake") == Stored("brake", Example(BRAKE.text, ["new pads"]), {"shop": "south", "year": 2021})
    assert ids_of(filled.search("the bell is silent", k=1)) == ["chain"]
    assert filled.search("the chain slips", min_similarity=0.99) == []
    assert filled.search("the brakes squeal", k=1)[0].example.true_labels == ("new pads",)


def test_only_texts_that_changed_are_embedded(store):
    asked = []

    def encode(texts):
        asked.extend(texts)
        return bag_of_words(texts)

    with ExampleStore(None, CallableEncoder(encode, name="x"), backend="numpy") as watched:
        watched.add([CHAIN, BRAKE], ids=["chain", "brake"])
        asked.clear()
        watched.update(["chain", "brake"], [Example(CHAIN.text, ["other"]), SADDLE])

    assert asked == [SADDLE.text]


def test_what_is_returned_and_what_was_given_are_not_shared_with_the_store(store):
    metadata = {"tags": ["a"]}
    store.add([CHAIN], ids=["chain"], metadata=[metadata])

    metadata["tags"].append("b")
    store.get("chain").metadata["tags"].append("c")
    store.search("the chain slips")[0].metadata.clear()

    assert store.get("chain").metadata == {"tags": ["a"]}


ADD_ERRORS = [
    ((CHAIN,), "`examples` must be a list of examples, got Example"),
    (("the chain",), "`examples` must be a list of examples, got 'the chain'"),
    (([3],), "an example must be an `Example` or a mapping, got 3"),
    (([CHAIN], "a"), "`ids` must be a list of strings, got 'a'"),
    (([CHAIN], ["a", "b"]), "`ids` must name every example, got 2 for 1 examples"),
    (([CHAIN], [3]), r"`ids\[0\]` must be a string, got 3"),
    (([CHAIN], [""]), r"`ids\[0\]` must not be empty"),
    (([CHAIN, BRAKE], ["a", "a"]), r"`ids\[1\]` comes twice, got 'a'"),
    (([CHAIN, BRAKE], ["new", "brake"]), "the store has `brake` already; use `update` to change an example"),
    (([CHAIN], None, {"a": 1}), "`metadata` must be a list of mappings, got {'a': 1}"),
    (([CHAIN], None, []), "`metadata` must have one entry an example, got 0 for 1 examples"),
    (([CHAIN], None, ["a"]), r"`metadata\[0\]` must be a mapping with strings as keys, got 'a'"),
    (([CHAIN], None, [{3: 1}]), r"`metadata\[0\]` must be a mapping with strings as keys, got {3: 1}"),
    (([CHAIN], None, [{"a": math.nan}]), r"`metadata\[0\]` must hold JSON values only"),
    (([CHAIN], None, [{"a": {1, 2}}]), r"`metadata\[0\]` must hold JSON values only"),
]


@pytest.mark.parametrize(("arguments", "message"), ADD_ERRORS, ids=range(len(ADD_ERRORS)))
def test_what_cannot_be_added_is_refused_and_changes_nothing(filled, arguments, message):
    before = contents(filled)

    with pytest.raises(InputError, match=message):
        filled.add(*arguments)

    assert contents(filled) == before
    assert len(filled.search("the chain", k=9, min_similarity=-1)) == 3


def test_updates_of_what_is_not_there_are_refused_and_change_nothing(filled):
    before = contents(filled)

    with pytest.raises(InputError, match="the store has no `no`; use `add` for new examples"):
        filled.update(["chain", "no"], [BRAKE, BRAKE])
    with pytest.raises(InputError, match="`ids` must name every example, got 1 for 2 examples"):
        filled.update(["chain"], [BRAKE, BRAKE])

    assert contents(filled) == before


def test_an_id_that_is_not_there_cannot_be_looked_up(filled):
    with pytest.raises(InputError, match="there is no example with the id 'no'"):
        filled.get("no")
    with pytest.raises(InputError, match="an id must be a string, got 3"):
        filled.get(3)


SEARCH_ERRORS = [
    ((3,), {}, "`query` must be a string or a vector, got 3"),
    ((["the chain"],), {}, "`query` must be a string or a vector"),
    ((np.ones((1, DIM)),), {}, "`query` must be a string or a vector"),
    (
        (np.ones(DIM + 1),),
        {},
        r"vectors of queries must be numbers of the shape \[num_queries, 16\], got float64 \[1, 17\]",
    ),
    ((np.array(["a"] * DIM),), {}, "vectors of queries must be numbers"),
    ((np.zeros(DIM),), {}, "vectors of queries must be finite and not zero"),
    ((np.full(DIM, np.nan),), {}, "vectors of queries must be finite and not zero"),
    (("a",), {"k": 0}, "`k` must be a whole number of at least 1, got 0"),
    (("a",), {"k": 1.5}, "`k` must be a whole number of at least 1, got 1.5"),
    (("a",), {"min_similarity": 2}, "`min_similarity` must be between -1 and 1, got 2"),
    (("a",), {"min_similarity": math.nan}, "`min_similarity` must be between -1 and 1, got nan"),
    (("a",), {"min_similarity": None}, "`min_similarity` must be between -1 and 1, got None"),
    (("a",), {"where": "shop"}, "`where` must be a mapping with strings as keys, or a function, got 'shop'"),
    (("a",), {"where": {3: 4}}, "`where` must be a mapping with strings as keys, or a function, got {3: 4}"),
    (("a",), {"exclude_ids": "chain"}, "`exclude_ids` must be a collection of strings, got 'chain'"),
    (("a",), {"exclude_ids": [3]}, r"`exclude_ids\[0\]` must be a string, got 3"),
    (("a",), {"exclude_text": 3}, "`exclude_text` must be a string, got 3"),
]


@pytest.mark.parametrize(("arguments", "options", "message"), SEARCH_ERRORS, ids=range(len(SEARCH_ERRORS)))
def test_what_cannot_be_searched_for_is_refused(filled, arguments, options, message):
    with pytest.raises(InputError, match=message):
        filled.search(*arguments, **options)


def test_many_searches_need_a_list_and_as_many_texts_to_leave_out(filled):
    with pytest.raises(InputError, match="`queries` must be a list of strings, got 'the chain'"):
        filled.search_many("the chain")
    with pytest.raises(InputError, match="`queries` must be a list of strings, got 3"):
        filled.search_many(3)
    with pytest.raises(InputError, match="`exclude_texts` must have one text a query, got 1 for 2"):
        filled.search_many(["a", "b"], exclude_texts=["a"])


BAD_ENCODERS = [
    (lambda texts: np.ones((len(texts) + 1, 3)), r"must return vectors of the shape \[1, dim\], got \[2, 3\]"),
    (lambda texts: np.zeros((len(texts), 0)), r"must return vectors of the shape \[1, dim\], got \[1, 0\]"),
    (lambda texts: np.ones(3), r"must return one vector a text, got the shape \[3\]"),
    (lambda texts: [[1.0], [1.0, 2.0]], "must return vectors of one length"),
    (lambda texts: "vectors", "must return vectors of one length"),
    (lambda texts: np.full((len(texts), 3), np.nan), "must return unit vectors, that of '.*' has length nan"),
    (lambda texts: np.full((len(texts), 3), np.inf), "must return unit vectors, that of '.*' has length nan"),
]


@pytest.mark.parametrize(("function", "message"), BAD_ENCODERS, ids=range(len(BAD_ENCODERS)))
def test_an_encoder_without_usable_vectors_is_refused(function, message):
    with np.errstate(invalid="ignore"), pytest.raises(BackendError, match=message):
        ExampleStore(None, CallableEncoder(function, name="broken"), backend="numpy")


def test_an_encoder_that_changes_its_dimension_is_refused(store):
    vectors = {"a": np.ones(3)}
    with ExampleStore(None, table_encoder(vectors), backend="numpy") as made:
        vectors["b"] = np.ones(4)
        with pytest.raises(BackendError, match=r"must return vectors of the shape \[1, 3\], got \[1, 4\]"):
            made.add([Example("b")])
        assert len(made) == 0


def test_vectors_that_are_not_of_unit_length_are_refused():
    class Long:
        fingerprint = "long"

        def encode(self, texts):
            return np.full((len(texts), 3), 2.0, dtype=np.float32)

    with pytest.raises(BackendError, match=r"must return unit vectors, that of '.*' has length 3.46"):
        ExampleStore(None, Long(), backend="numpy")


@pytest.mark.parametrize("encoder", [bag_of_words, "bundled", object()])
def test_what_is_no_encoder_is_refused(encoder):
    with pytest.raises(InputError, match="`encoder` must have `encode` and a `fingerprint`; make one with"):
        ExampleStore(None, encoder)


def test_a_text_without_a_direction_is_similar_to_nothing():
    with ExampleStore(None, table_encoder({"": np.zeros(3), "x": np.ones(3)}), backend="numpy") as made:
        made.add([Example(""), Example("x")], ids=["blank", "x"])

        assert ids_of(made.search("x", min_similarity=0.1)) == ["x"]
        assert [hit.similarity for hit in made.search("", min_similarity=-1)] == [0.0, 0.0]


def test_a_closed_store_says_so():
    made = ExampleStore(None, ENCODER, backend="numpy")
    made.close()
    made.close()

    for use in (lambda: made.add([CHAIN]), lambda: made.search("a"), lambda: len(made), lambda: made.get("a")):
        with pytest.raises(InputError, match=r"the store (in memory )?is closed"):
            use()


def test_threads_search_while_others_write(store):
    words = ["chain", "brake", "saddle", "bell", "wheel", "rim", "tyre", "pump", "light", "lock"]
    store.add([Example(f"the {word}") for word in words], ids=words)
    stop, errors = threading.Event(), []

    def write(number):
        turn = 0
        while not stop.is_set():
            turn += 1
            name = f"{number}-{turn}"
            store.add([Example(f"new {name}")], ids=[name])
            store.update([name], [Example(f"changed {name}")])
            if ids_of(store.search(f"changed {name}", k=1)) != [name]:
                errors.append(name)
            store.delete([name])

    def read(word):
        for _ in range(40):
            found = store.search(f"the {word}", k=1)
            if ids_of(found) != [word] or found[0].similarity != 1.0:
                errors.append((word, found))

    writers = [threading.Thread(target=write, args=(number,)) for number in range(2)]
    for thread in writers:
        thread.start()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(read, words))
    stop.set()
    for thread in writers:
        thread.join(20)

    assert not errors
    assert sorted(contents(store)) == sorted(words)


def test_an_example_is_never_invisible_while_it_is_updated(store):
    store.add([Example("version 0")], ids=["one"])
    stop, seen = threading.Event(), set()  # by a search and by its id

    def write():
        for number in range(1, 200):
            store.update(["one"], [Example(f"version {number}")])
        stop.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not stop.is_set():
        seen.add(len(store.search("version", min_similarity=-1)))
        store.get("one")
    writer.join(20)

    assert seen <= {1}
