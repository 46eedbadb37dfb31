"""Ranking with a store of judged examples, and learning from feedback: the bundled model and real stores."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from example_stores import CHAIN, CHAIN_QUERY, OTHER_QUERY, PASSAGES, TYRE, TYRE_QUERY, Source

from gliclass_rerank import BackendError, ConfigError, DataError, Example, InputError, Reranker
from gliclass_rerank.examples import CallableEncoder, ExampleSource, ExampleStore, FeedbackSource, LocalEncoder


@pytest.fixture(scope="module")
def encoder():
    return LocalEncoder(device="cpu")


@pytest.fixture(scope="module")
def store(encoder):
    """Four examples, those of the chain not in the order of their similarity."""
    with ExampleStore(None, encoder) as made:
        made.add([TYRE, CHAIN[2], CHAIN[0], CHAIN[1]])
        yield made


@pytest.fixture(scope="module")
def learned(store):
    return Reranker(device="cpu", example_store=store)


@pytest.fixture
def tiny(tiny_folders):
    """Rerankers where the model does not matter."""
    return lambda **settings: Reranker(tiny_folders["bert"], device="cpu", **settings)


@pytest.fixture
def learner(tiny, encoder):
    """A reranker with an empty store of its own."""
    with ExampleStore(None, encoder) as empty:
        yield tiny(example_store=empty)


def test_a_store_and_any_other_source_are_what_a_reranker_takes(store):
    assert isinstance(store, ExampleSource)
    assert isinstance(store, FeedbackSource)
    assert not isinstance(Source(), FeedbackSource)


def test_examples_that_are_found_are_shown_like_those_given_by_hand(learned, bundled):
    ranking = learned.rank(CHAIN_QUERY, PASSAGES)

    assert ranking == bundled.rank(CHAIN_QUERY, PASSAGES, examples=CHAIN)
    assert ranking.hits != bundled.rank(CHAIN_QUERY, PASSAGES).hits


def test_the_most_similar_example_comes_first(learned):
    assert learned.rank(CHAIN_QUERY, PASSAGES).examples == tuple(CHAIN)
    assert learned.examples_for([TYRE_QUERY, CHAIN_QUERY]) == [(TYRE,), tuple(CHAIN)]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"num_examples": 0}, []),
        ({"num_examples": 1}, CHAIN[:1]),
        ({"num_examples": np.int64(2)}, CHAIN[:2]),
        ({"min_example_similarity": 0.705}, CHAIN[:2]),
        ({"min_example_similarity": 0.99}, []),
        ({"num_examples": 9, "min_example_similarity": -1}, [*CHAIN, TYRE]),
    ],
)
def test_number_and_similarity_of_examples_can_be_set(tiny, store, settings, expected):
    reranker = tiny(example_store=store, **settings)

    assert reranker.rank(CHAIN_QUERY, PASSAGES).examples == tuple(expected)


def test_when_nothing_is_similar_enough_the_ranking_is_that_without_a_store(learned, bundled):
    assert learned.rank(OTHER_QUERY, PASSAGES) == bundled.rank(OTHER_QUERY, PASSAGES)


def test_an_empty_store_changes_nothing(learner, tiny):
    assert learner.rank(CHAIN_QUERY, PASSAGES) == tiny().rank(CHAIN_QUERY, PASSAGES)


def test_examples_given_by_hand_take_the_place_of_the_stores(learned, bundled):
    by_hand = [TYRE, {"text": "a loose bell", "labels": ["Tighten the bell."]}]

    assert learned.rank(CHAIN_QUERY, PASSAGES, examples=by_hand) == bundled.rank(
        CHAIN_QUERY, PASSAGES, examples=by_hand
    )
    assert learned.rank(CHAIN_QUERY, PASSAGES, examples=by_hand).examples == (
        TYRE,
        Example("a loose bell", ("Tighten the bell.",)),
    )


def test_an_empty_list_of_examples_shows_none(learned, bundled):
    assert learned.rank(CHAIN_QUERY, PASSAGES, examples=[]) == bundled.rank(CHAIN_QUERY, PASSAGES)


def test_many_queries_are_shown_what_each_is_shown_alone(learned):
    queries, lists = [CHAIN_QUERY, OTHER_QUERY, TYRE_QUERY], [PASSAGES, PASSAGES[1:], PASSAGES[:2]]

    found = learned.rank_many(queries, lists)

    assert [ranking.examples for ranking in found] == [tuple(CHAIN), (), (TYRE,)]
    for ranking, query, passages in zip(found, queries, lists, strict=True):
        alone = learned.rank(query, passages)
        assert [hit.index for hit in ranking] == [hit.index for hit in alone]
        # Queries of other lengths in one batch take another kernel; logits are of order 10.
        assert [hit.logit for hit in ranking] == pytest.approx([hit.logit for hit in alone], abs=1e-4)


def test_many_queries_are_one_search_and_those_without_passages_none(tiny):
    source = Source([[TYRE], []])
    reranker = tiny(example_store=source)

    found = reranker.rank_many([TYRE_QUERY, CHAIN_QUERY, OTHER_QUERY], [PASSAGES, [], PASSAGES])

    assert source.asked == [([TYRE_QUERY, OTHER_QUERY], 3, 0.5, True)]
    assert [ranking.examples for ranking in found] == [(TYRE,), (), ()]
    assert reranker.rank_many([CHAIN_QUERY], [[]])[0].examples == ()
    assert len(source.asked) == 1


@pytest.mark.parametrize(
    "query",
    [CHAIN[0].text, CHAIN[0].text.upper(), f"  {CHAIN[0].text}\n", CHAIN[0].text.replace(" ", "  \t")],
)
def test_a_query_is_shown_its_own_judgement_unless_that_is_switched_off(store, learned, tiny, query):
    assert learned.rank(query, PASSAGES).examples[0] == CHAIN[0]

    measured = tiny(example_store=store, allow_same_text=False).rank(query, PASSAGES).examples

    assert CHAIN[0] not in measured
    assert len(measured) == 2


def test_a_source_that_lets_a_query_see_its_own_judgement_is_not_relied_upon(tiny):
    source = Source([[Example(f" {CHAIN_QUERY.upper()}", ["x"]), TYRE]])

    assert tiny(example_store=source, allow_same_text=False).rank(CHAIN_QUERY, PASSAGES).examples == (TYRE,)


def test_the_budget_cuts_what_was_found_from_the_end_and_says_so(store, bundled):
    free, tight = (Reranker(device="cpu", example_store=store, max_example_tokens=limit) for limit in (None, 14))

    whole, cut = free.rank(CHAIN_QUERY, PASSAGES), tight.rank(CHAIN_QUERY, PASSAGES)

    assert whole.truncated_examples == ()
    assert cut.examples == tuple(CHAIN)
    left_out = [lost.index for lost in cut.truncated_examples if lost.num_lost == lost.num_tokens]
    assert left_out == [2]
    assert cut == Reranker(device="cpu", max_example_tokens=14).rank(CHAIN_QUERY, PASSAGES, examples=CHAIN)


def test_of_many_judgements_of_a_query_the_newest_are_shown_and_none_is_lost(tiny, encoder):
    with ExampleStore(None, encoder) as store:
        default, one, whole = (tiny(example_store=store, max_example_passages=most) for most in (None, 1, np.int64(9)))
        for number in range(6):
            default.feedback("my chain slips", relevant=[f"chain {number}"], irrelevant=[f"bell {number}"])

        rankings = [reranker.rank(CHAIN_QUERY, PASSAGES) for reranker in (default, one, whole)]

        (kept,) = store
    newest = [f"chain {number}" for number in range(5, -1, -1)]
    assert kept.example == Example("my chain slips", newest, [f"bell {number}" for number in range(5, -1, -1)])
    for ranking, most in zip(rankings, (4, 1, 9), strict=True):
        by_hand = whole.rank(CHAIN_QUERY, PASSAGES, examples=[Example("my chain slips", newest[:most])])
        assert ranking.hits == by_hand.hits
        assert ranking.examples == (kept.example,)
        assert [lost.index for lost in ranking.truncated_examples] == ([0] if most < 6 else [])


def test_sixteen_threads_are_shown_what_one_is(learned):
    queries = [CHAIN_QUERY, TYRE_QUERY, OTHER_QUERY, CHAIN[0].text] * 4
    expected = {query: learned.rank(query, PASSAGES) for query in queries}

    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(lambda query: learned.rank(query, PASSAGES), queries))

    assert found == [expected[query] for query in queries]


def test_threads_rank_while_others_give_feedback(learner):
    def judge(number):
        return learner.feedback(f"how do I mend part {number} of my chain?", relevant=[f"Mend part {number}."])

    with ThreadPoolExecutor(8) as threads:
        ids = list(threads.map(judge, range(20)))
        rankings = list(threads.map(lambda _: learner.rank(CHAIN_QUERY, PASSAGES), range(20)))

    assert len(set(ids)) == len(learner.example_store) == 20
    assert all(ranking == rankings[0] for ranking in rankings)


# Feedback


def test_feedback_is_shown_to_similar_queries_from_then_on(learner):
    assert learner.rank(CHAIN_QUERY, PASSAGES).examples == ()

    name = learner.feedback(CHAIN[0].text, relevant=CHAIN[0].true_labels, irrelevant=CHAIN[0].false_labels)

    assert learner.rank(CHAIN_QUERY, PASSAGES).examples == (CHAIN[0],)
    assert learner.example_store.get(name).example == CHAIN[0]


def test_feedback_of_one_query_is_one_example_and_the_newer_judgement_wins(learner):
    first = learner.feedback("A slipping  chain", relevant=["oil it", "shorten it"], irrelevant=["ride on"])
    second = learner.feedback("a slipping chain ", relevant=["ride on", "replace it"], irrelevant=["oil it"])

    assert second == first
    assert len(learner.example_store) == 1
    assert learner.example_store.get(first).example == Example(
        "A slipping  chain", ("ride on", "replace it", "shorten it"), ("oil it",)
    )


def test_feedback_under_an_id_of_its_own_stays_apart(learner):
    common = learner.feedback("a slipping chain", relevant=["oil it"])
    own = learner.feedback("a slipping chain", irrelevant=["oil it"], id="click-7", metadata={"user": 1, "day": 2})
    learner.feedback("A slipping chain", relevant=["shorten it"], id="click-7", metadata={"day": 3})

    stored = learner.example_store.get("click-7")
    assert own == "click-7" != common
    assert stored.example == Example("a slipping chain", ("shorten it",), ("oil it",))
    assert stored.metadata == {"user": 1, "day": 3}
    with pytest.raises(
        InputError, match="the id 'click-7' belongs to the example 'a slipping chain', got 'a flat tyre'"
    ):
        learner.feedback("a flat tyre", relevant=["patch it"], id="click-7")


def test_feedback_outlives_the_reranker(tmp_path):
    path = tmp_path / "judged.db"
    reranker = Reranker(device="cpu", example_store=path)
    reranker.feedback(CHAIN[0].text, relevant=CHAIN[0].true_labels)
    reranker.feedback(CHAIN[0].text, irrelevant=CHAIN[0].false_labels)
    before = reranker.rank(CHAIN_QUERY, PASSAGES)
    del reranker

    after = Reranker(device="cpu", example_store=str(path)).rank(CHAIN_QUERY, PASSAGES)

    assert after == before
    assert after.examples == (CHAIN[0],)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("chain",), r"`relevant` or `irrelevant` must hold a passage, got \(\) and \(\)"),
        (("chain", ["a", "b"], ["c", "b"]), "a passage must be either relevant or irrelevant, got 'b' as both"),
        ((" ", ["a"]), "`query` must not be blank, got ' '"),
        ((7, ["a"]), "`query` must be a string, got 7"),
        (("chain", "a"), "`relevant` must be a list of strings, got 'a'"),
        (("chain", [], [None]), r"`irrelevant\[0\]` must be a string, got None"),
    ],
)
def test_feedback_that_says_nothing_or_contradicts_itself_is_refused(learner, arguments, message):
    with pytest.raises(InputError, match=message):
        learner.feedback(*arguments)
    assert len(learner.example_store) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"id": ""}, "`id` must not be empty"),
        ({"id": 7}, "`id` must be a string, got 7"),
        ({"metadata": [1]}, r"`metadata` must be a mapping with strings as keys, got \[1\]"),
        ({"metadata": {"a": {1}}}, "`metadata` must hold JSON values only"),
    ],
)
def test_names_and_metadata_of_feedback_are_checked(learner, options, message):
    with pytest.raises(InputError, match=message):
        learner.feedback("chain", ["a"], **options)
    assert len(learner.example_store) == 0


def test_feedback_needs_a_store_that_can_be_written_to(tiny, encoder, tmp_path):
    with pytest.raises(ConfigError, match="feedback needs a store, pass `example_store`, got None"):
        tiny().feedback("chain", ["a"])
    with pytest.raises(ConfigError, match="`example_store` cannot be written to, got <"):
        tiny(example_store=Source()).feedback("chain", ["a"])

    path = tmp_path / "judged.db"
    ExampleStore(path, encoder).close()
    with ExampleStore(path, encoder, read_only=True) as shared, pytest.raises(InputError, match="`read_only=True`"):
        tiny(example_store=shared).feedback("chain", ["a"])


# Opening, closing, pickling


def test_rerankers_of_one_path_share_its_store_and_the_last_one_gone_closes_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one, other = (
        Reranker(device="cpu", example_store="judged.db"),
        Reranker(device="cpu", example_store=tmp_path / "judged.db"),
    )
    one.feedback(CHAIN[0].text, CHAIN[0].true_labels)

    assert other.example_store is one.example_store
    assert len(other.rank(CHAIN_QUERY, PASSAGES).examples) == 1
    with pytest.raises(DataError, match="open elsewhere"):
        ExampleStore.reencode("judged.db")

    del one, other
    assert ExampleStore.reencode("judged.db") == 1


def test_a_store_that_was_closed_is_opened_again_by_its_path(tmp_path):
    first = Reranker(device="cpu", example_store=tmp_path / "judged.db")
    first.example_store.close()

    assert Reranker(device="cpu", example_store=tmp_path / "judged.db").rank(CHAIN_QUERY, PASSAGES).examples == ()
    with pytest.raises(InputError, match="closed"):
        first.rank(CHAIN_QUERY, PASSAGES)


def test_a_pickle_carries_the_path_of_the_store(tmp_path):
    path = tmp_path / "judged.db"
    reranker = Reranker(
        device="cpu", example_store=path, num_examples=2, min_example_similarity=0.6, max_example_passages=np.int64(2)
    )
    reranker.feedback(CHAIN[0].text, CHAIN[0].true_labels)
    pickled = pickle.dumps(reranker)

    assert len(pickled) < 1000
    assert pickle.loads(pickled).rank(CHAIN_QUERY, PASSAGES) == reranker.rank(CHAIN_QUERY, PASSAGES)
    assert copy.deepcopy(reranker) is reranker
    assert reranker.settings == {
        "device": "cpu",
        "max_example_passages": 2,
        "example_store": str(path),
        "num_examples": 2,
        "min_example_similarity": 0.6,
    }


def test_a_store_that_is_an_object_cannot_be_pickled(learned):
    message = "an `example_store` that is an object cannot be pickled or written into settings; give the store's path"
    with pytest.raises(ConfigError, match=message):
        pickle.dumps(learned)
    with pytest.raises(ConfigError, match=message):
        _ = learned.settings
    assert copy.deepcopy(learned) is learned


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"example_store": 7}, "`example_store` must be a path or have `find_examples`, as `ExampleStore` has, got 7"),
        ({"example_store": ExampleStore}, "`example_store` must be a path or have `find_examples`"),
        (
            {"example_store": "no-such-folder/judged.db"},
            "a store is a file in an existing folder, got `.*no-such-folder",
        ),
        ({"num_examples": -1}, "`num_examples` must be a whole number of at least 0, got -1"),
        ({"num_examples": "3"}, "`num_examples` must be a whole number of at least 0, got '3'"),
        ({"max_example_passages": 0}, "`max_example_passages` must be a whole number of at least 1, got 0"),
        ({"min_example_similarity": 1.5}, "`min_example_similarity` must be between -1 and 1, got 1.5"),
        ({"min_example_similarity": float("nan")}, "`min_example_similarity` must be between -1 and 1, got nan"),
    ],
)
def test_wrong_settings_of_examples_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        Reranker(device="cpu", **settings)


def test_a_store_of_another_encoder_is_refused(tmp_path):
    path = tmp_path / "judged.db"
    ExampleStore(path, CallableEncoder(lambda texts: [[1.0, 0.0]] * len(texts), name="other")).close()

    with pytest.raises(ConfigError, match="was filled by the encoder 'callable:other'"):
        Reranker(device="cpu", example_store=path)


def test_a_file_that_is_no_store_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("no store " * 100)

    with pytest.raises(DataError, match="no example store"):
        Reranker(device="cpu", example_store=tmp_path / "notes.txt")


# A source that fails


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (TimeoutError("no answer within 5 s"), "the example store failed: TimeoutError: no answer within 5 s"),
        (DataError("the store `x` cannot be used: disk I/O error"), "the store `x` cannot be used: disk I/O error"),
        (BackendError("the encoder failed"), "the encoder failed"),
    ],
)
def test_a_failing_source_is_a_backend_error(tiny, error, message):
    reranker = tiny(example_store=Source(error=error))

    with pytest.raises(BackendError) as caught:
        reranker.rank(CHAIN_QUERY, PASSAGES)

    assert str(caught.value) == message
    assert reranker.rank(CHAIN_QUERY, PASSAGES, examples=[TYRE]).examples == (TYRE,)


def test_an_encoder_that_fails_is_one_too_and_feedback_then_writes_nothing(tiny):
    def embed(texts):
        if "fail" in texts[0]:
            raise ConnectionError("the service is down")
        return [[1.0, 0.0]] * len(texts)

    with ExampleStore(None, CallableEncoder(embed, name="service")) as flaky:
        reranker = tiny(example_store=flaky)
        for work in (lambda: reranker.rank("fail", PASSAGES), lambda: reranker.feedback("fail", ["a"])):
            with pytest.raises(BackendError, match="the example store failed: ConnectionError: the service is down"):
                work()
        assert len(flaky) == 0


def test_a_source_that_does_not_answer_for_each_query_is_refused(tiny):
    with pytest.raises(BackendError, match="the example store must answer each of 1 texts, got 2 answers"):
        tiny(example_store=Source([[], []])).rank(CHAIN_QUERY, PASSAGES)
