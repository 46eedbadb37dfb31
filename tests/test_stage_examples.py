"""The stage with a store of judged examples."""

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest
from example_stores import CHAIN, CHAIN_QUERY, PASSAGES, TYRE, Source

from gliclass_rerank import BackendError, ConfigError, DataError, Reranker, RerankStage
from gliclass_rerank.examples import ExampleStore, LocalEncoder


@pytest.fixture(scope="module")
def encoder():
    return LocalEncoder(device="cpu")


@pytest.fixture
def path(encoder, tmp_path):
    """The path of a store with an example."""
    with ExampleStore(tmp_path / "judged.db", encoder) as store:
        store.add([CHAIN[0]])
    return tmp_path / "judged.db"


@pytest.fixture
def by_hand(bundled):
    """What the stage returns when it is given the store's example by hand."""
    return RerankStage(reranker=bundled).run(CHAIN_QUERY, PASSAGES, examples=[CHAIN[0]])


@pytest.mark.parametrize("as_text", [True, False])
def test_examples_are_found_in_the_store_of_a_path(path, bundled, by_hand, as_text):
    stage = RerankStage(device="cpu", example_store=str(path) if as_text else path)

    assert stage.run(CHAIN_QUERY, PASSAGES) == by_hand
    assert by_hand != RerankStage(reranker=bundled).run(CHAIN_QUERY, PASSAGES)


def test_a_store_comes_as_an_object_or_with_the_reranker_or_its_settings_too(path, encoder, by_hand):
    with ExampleStore(path, encoder) as store:
        for stage in (
            RerankStage(device="cpu", example_store=store),
            RerankStage(reranker=Reranker(device="cpu", example_store=store)),
            RerankStage(reranker={"device": "cpu", "example_store": store, "min_example_similarity": 0.7}),
        ):
            assert stage.run(CHAIN_QUERY, PASSAGES) == by_hand


def test_settings_of_examples_reach_the_reranker(path, bundled):
    settings = {"device": "cpu", "example_store": path, "min_example_similarity": 0.9, "num_examples": 1}

    assert RerankStage(reranker=settings).run(CHAIN_QUERY, PASSAGES) == RerankStage(reranker=bundled).run(
        CHAIN_QUERY, PASSAGES
    )


def test_examples_by_hand_take_the_place_of_the_stores(path, bundled):
    plain = RerankStage(reranker=bundled)
    stage, fixed, silent = (
        RerankStage(device="cpu", example_store=path, examples=examples) for examples in (None, [TYRE], [])
    )

    assert stage.run(CHAIN_QUERY, PASSAGES, examples=[TYRE]) == plain.run(CHAIN_QUERY, PASSAGES, examples=[TYRE])
    assert fixed.run(CHAIN_QUERY, PASSAGES) == plain.run(CHAIN_QUERY, PASSAGES, examples=[TYRE])
    assert silent.run(CHAIN_QUERY, PASSAGES) == plain.run(CHAIN_QUERY, PASSAGES)


def test_a_prefix_is_no_part_of_what_is_searched_for():
    source = Source([[CHAIN[0]]])
    stage = RerankStage(reranker=Reranker(device="cpu", example_store=source), query_prefix="query: ")

    stage.run(CHAIN_QUERY, PASSAGES)

    assert source.asked == [([CHAIN_QUERY], 3, 0.5, True)]


def test_judgements_count_behind_prefixes_and_in_any_fusion(path, bundled):
    reranker = Reranker(device="cpu", example_store=path)
    reranker.feedback(CHAIN_QUERY, relevant=[PASSAGES[2]], irrelevant=[PASSAGES[0]])
    stages = [
        RerankStage(reranker=reranker, query_prefix="query: ", passage_prefix="passage: "),
        RerankStage(reranker=reranker, fusion="weighted"),
        RerankStage(reranker=reranker, score_threshold=0.0, top_k=3),
    ]

    for stage in stages:
        ranking = stage.run(f" {CHAIN_QUERY.upper()}", PASSAGES, [3.0, 2.0, 1.0])
        assert [hit.index for hit in ranking] == [2, 1, 0]
        assert [hit.judged for hit in ranking] == ["relevant", None, "irrelevant"]
        assert [ranking[0].score, ranking[2].score] == [ranking[0].rerank_score, ranking[2].rerank_score] == [1.0, 0.0]
        assert [stage.notes(hit, ranking).get("rerank_judged") for hit in ranking] == ["relevant", None, "irrelevant"]
    assert stages[2].run(CHAIN_QUERY, PASSAGES, top_k=1)[0].index == 2
    # Examples by hand take the place of the whole store.
    assert all(hit.judged is None for hit in stages[0].run(CHAIN_QUERY, PASSAGES, examples=[]))


def test_only_blank_passages_ask_no_store():
    source = Source()

    assert len(RerankStage(example_store=source).run(CHAIN_QUERY, ["", " "])) == 2
    assert source.asked == []


def test_a_failing_source_keeps_the_order():
    failing = Reranker(device="cpu", example_store=Source(error=TimeoutError("no answer")))

    kept = RerankStage(reranker=failing, on_error="keep_order").run(CHAIN_QUERY, PASSAGES)

    assert [(hit.index, hit.score) for hit in kept] == [(0, None), (1, None), (2, None)]
    assert kept.error == "BackendError: the example store failed: TimeoutError: no answer"
    with pytest.raises(BackendError, match="no answer"):
        RerankStage(reranker=failing).run(CHAIN_QUERY, PASSAGES)


def test_a_store_that_cannot_be_opened_is_reported_once_and_keeps_the_order_until_it_can(path, by_hand, caplog):
    good = path.read_bytes()
    path.write_bytes(b"no database at all, but long enough to be looked at" * 10)
    stage = RerankStage(device="cpu", example_store=path, on_error="keep_order")
    stage.warm_up()
    with pytest.warns(RuntimeWarning, match=r"nothing is reranked: the store `.*` is no example store"):
        kept = stage.run(CHAIN_QUERY, PASSAGES)
    again = stage.run(CHAIN_QUERY, PASSAGES)  # a second warning would be an error
    with pytest.raises(DataError, match="is no example store"):
        RerankStage(device="cpu", example_store=path).warm_up()

    assert kept.error.startswith("DataError: the store `")
    assert again == kept
    assert caplog.text.count("nothing is reranked") == 1
    path.write_bytes(good)
    assert stage.run(CHAIN_QUERY, PASSAGES) == by_hand


def test_feedback_reaches_a_stage_of_the_same_process(path, bundled):
    stage = RerankStage(device="cpu", example_store=path)
    before = stage.run(CHAIN_QUERY, PASSAGES)

    Reranker(device="cpu", example_store=path).feedback("chain slipping, why?", relevant=[PASSAGES[0]])

    assert stage.run(CHAIN_QUERY, PASSAGES) != before


def test_closing_the_stage_closes_the_store_of_a_path_and_the_next_use_opens_it_again(path, encoder, by_hand):
    stage = RerankStage(device="cpu", example_store=path)
    stage.warm_up()
    with pytest.raises(DataError, match="open elsewhere"):
        ExampleStore.reencode(path, encoder)
    stage.close()
    assert ExampleStore.reencode(path, encoder) == 1

    with ExampleStore(path, encoder) as store:
        assert len(store) == 1
    assert stage.run(CHAIN_QUERY, PASSAGES) == by_hand


def test_closing_the_stage_leaves_a_given_store_open(path, encoder):
    with ExampleStore(path, encoder) as store:
        stage = RerankStage(device="cpu", example_store=store)
        stage.warm_up()
        stage.close()

        assert len(store) == 1


@pytest.mark.parametrize("as_reranker", [True, False])
def test_a_pickle_carries_the_path(path, by_hand, as_reranker):
    if as_reranker:
        stage = RerankStage(reranker=Reranker(device="cpu", example_store=path))
    else:
        stage = RerankStage(device="cpu", example_store=path)
    pickled = pickle.dumps(stage)

    assert len(pickled) < 2000
    assert pickle.loads(pickled).run(CHAIN_QUERY, PASSAGES) == by_hand


def test_a_stage_with_a_store_that_is_an_object_works_and_cannot_be_pickled():
    source = Source([[CHAIN[0]]])
    for stage in (
        RerankStage(device="cpu", example_store=source),
        RerankStage(reranker=Reranker(device="cpu", example_store=source)),
    ):
        with pytest.raises(ConfigError, match="cannot be pickled or written into settings; give the store's path in"):
            pickle.dumps(stage)
        assert copy.deepcopy(stage) is stage
        assert len(stage.run(CHAIN_QUERY, PASSAGES)) == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"example_store": 7}, "`example_store` must be a path or have `find_examples`, as `ExampleStore` has, got 7"),
        ({"reranker": {"example_store": 7}}, "`example_store` must be a path or have `find_examples`"),
        ({"reranker": {}, "example_store": "x.db"}, "pass either `reranker` or `example_store`, not both"),
    ],
)
def test_wrong_stores_are_refused_at_once(settings, message):
    with pytest.raises(ConfigError, match=message):
        RerankStage(**settings)


def test_naming_a_store_loads_nothing_heavy():
    code = (
        "import sys; from gliclass_rerank import RerankStage; RerankStage(example_store='judged.db'); "
        "assert not {'torch', 'numpy', 'sqlite3'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


class Unequal:
    __hash__ = None

    def __eq__(self, other):
        raise ArithmeticError


@pytest.mark.parametrize("store", [np.array(["a", "b"]), np.zeros((2, 2)), Unequal()])
def test_what_cannot_be_compared_is_no_store(store):
    with pytest.raises(ConfigError, match=r"^`example_store` must be a path or have `find_examples`"):
        RerankStage(example_store=store)
