"""Judgements of the very query: exact, at once, and kept apart by `where`."""

import asyncio

import numpy as np
import pytest
from example_stores import Source

from gliclass_rerank import BackendError, Example, InputError, Reranker
from gliclass_rerank.examples import CallableEncoder, ExampleStore

QUERY = "Larry is stuck"
PASSAGES = ["Lift: ring the bell.", "Printer: open the tray.", "Museum: closed.", "Printer: pull.", "Lift: wait."]
NORTH, SOUTH = {"tenant": "north"}, {"tenant": "south"}


def encode(texts):
    """All texts are similar, and none is the same as another."""
    return np.stack([[10.0, *(text.lower().count(letter) for letter in "aeiou")] for text in texts])


@pytest.fixture
def made(tiny_folders):
    """A reranker with an empty store in memory."""
    with ExampleStore(None, CallableEncoder(encode, name="vowels")) as store:
        yield lambda **settings: Reranker(tiny_folders["bert"], device="cpu", example_store=store, **settings)


def marks(ranking):
    return {hit.index: hit.judged for hit in ranking if hit.judged}


def test_what_is_known_comes_first_or_last_at_once(made):
    reranker = made()
    plain = reranker.rank(QUERY, PASSAGES)
    best, worst = plain[0].index, plain[-1].index

    reranker.feedback(QUERY, relevant=[PASSAGES[worst]], irrelevant=[PASSAGES[best]])
    ranking = reranker.rank(QUERY, PASSAGES)

    assert (ranking[0].index, ranking[-1].index) == (worst, best)
    assert marks(plain) == {}
    assert marks(ranking) == {worst: "relevant", best: "irrelevant"}
    assert (ranking[0].score, ranking[-1].score) == (1.0, 0.0)
    assert [hit.score for hit in ranking] == sorted((hit.score for hit in ranking), reverse=True)
    assert reranker.rank(QUERY, PASSAGES, top_k=1).hits == ranking.hits[:1]


def test_logits_of_what_is_known_stay_the_models(made):
    reranker = made()
    reranker.feedback(QUERY, relevant=[PASSAGES[0]])

    ranking = reranker.rank(QUERY, PASSAGES)

    by_hand = reranker.rank(QUERY, PASSAGES, examples=ranking.examples)
    assert {hit.index: hit.logit for hit in ranking} == {hit.index: hit.logit for hit in by_hand}
    assert marks(by_hand) == {}


def test_several_known_passages_keep_the_models_order_among_them(made):
    reranker = made()
    reranker.feedback(QUERY, relevant=PASSAGES[1:3], irrelevant=PASSAGES[3:])

    ranking = reranker.rank(QUERY, PASSAGES)

    assert {hit.index for hit in ranking[:2]} == {1, 2}
    assert {hit.index for hit in ranking[3:]} == {3, 4}
    for part in (ranking[:2], ranking[3:]):
        assert part[0].logit >= part[1].logit


@pytest.mark.parametrize("query", ["LARRY is  stuck", "\tlarry is stuck\n"])
def test_case_and_white_space_make_no_difference(made, query):
    reranker = made()
    reranker.feedback(QUERY, relevant=[PASSAGES[4].upper()])

    assert marks(reranker.rank(query, [*PASSAGES, f" {PASSAGES[4]}"])) == {4: "relevant", 5: "relevant"}


def test_another_query_is_not_judged(made):
    reranker = made()
    reranker.feedback(QUERY, relevant=[PASSAGES[4]])

    ranking = reranker.rank("Larry is stuck again", PASSAGES)

    assert marks(ranking) == {}
    assert len(ranking.examples) == 1


def test_the_newest_judgement_counts_also_under_ids_of_their_own(made):
    reranker = made()
    reranker.feedback(QUERY, relevant=[PASSAGES[1]], id="first")
    reranker.feedback(QUERY, irrelevant=PASSAGES[1:3], id="second")
    reranker.example_store.add([Example(QUERY, [PASSAGES[2]])])

    assert marks(reranker.rank(QUERY, PASSAGES)) == {1: "irrelevant", 2: "relevant"}


def test_a_judgement_that_was_taken_back_no_longer_counts(made):
    reranker = made()
    name = reranker.feedback(QUERY, relevant=[PASSAGES[1]])
    reranker.example_store.delete([name])

    assert marks(reranker.rank(QUERY, PASSAGES)) == {}


def test_one_setting_switches_it_off_for_evaluation(made):
    made().feedback(QUERY, relevant=[PASSAGES[1]])

    measured = made(allow_same_text=False).rank(QUERY, PASSAGES)

    assert marks(measured) == {}
    assert measured.examples == ()


def test_a_source_without_exact_judgements_is_asked_for_similar_ones(tiny_folders):
    source = Source([[Example(QUERY.upper(), [PASSAGES[4]]), Example("another", [PASSAGES[3]])]])
    reranker = Reranker(tiny_folders["bert"], device="cpu", example_store=source)

    assert marks(reranker.rank(QUERY, PASSAGES)) == {4: "relevant"}


def test_many_queries_have_judgements_of_their_own(made):
    reranker = made()
    reranker.feedback(QUERY, relevant=[PASSAGES[1]])
    reranker.feedback("who is Larry?", irrelevant=[PASSAGES[1]])

    rankings = reranker.rank_many([QUERY, "what else?", "who is Larry?"], [PASSAGES] * 3)

    assert list(map(marks, rankings)) == [{1: "relevant"}, {}, {1: "irrelevant"}]


# Kept apart


def test_tenants_see_their_own_judgements_and_examples_only(made):
    reranker = made()
    north = reranker.feedback(QUERY, relevant=[PASSAGES[1]], where=NORTH)
    south = reranker.feedback(QUERY, irrelevant=[PASSAGES[1]], where=SOUTH, metadata={"day": 3})
    reranker.feedback("Larry is slow", relevant=[PASSAGES[2]], where=SOUTH)

    assert north != south
    assert reranker.example_store.get(south).metadata == {"day": 3, "tenant": "south"}
    assert marks(reranker.rank(QUERY, PASSAGES, where=NORTH)) == {1: "relevant"}
    assert marks(reranker.rank(QUERY, PASSAGES, where=SOUTH)) == {1: "irrelevant"}
    assert marks(reranker.rank(QUERY, PASSAGES, where={"tenant": "west"})) == {}
    assert [len(reranker.rank(QUERY, PASSAGES, where=one).examples) for one in (NORTH, SOUTH, None)] == [1, 2, 3]
    assert marks(reranker.rank(QUERY, PASSAGES, where=lambda metadata: "day" not in metadata)) == {1: "relevant"}


def test_judgements_of_one_tenant_are_merged(made):
    reranker = made()
    first = reranker.feedback(QUERY, relevant=[PASSAGES[1]], where=NORTH)
    second = reranker.feedback(f"{QUERY} ", relevant=[PASSAGES[2]], where=NORTH)

    assert first == second
    assert set(marks(reranker.rank(QUERY, PASSAGES, where=NORTH))) == {1, 2}


def test_an_id_of_one_tenant_is_not_anothers(made):
    reranker = made()
    reranker.feedback(QUERY, relevant=[PASSAGES[1]], where=NORTH, id="click")

    with pytest.raises(
        InputError, match=r"the id 'click' belongs to an example outside of `where`, \{'tenant': 'south'\}"
    ):
        reranker.feedback(QUERY, relevant=[PASSAGES[2]], where=SOUTH, id="click")


@pytest.mark.parametrize("where", ["north", 7, {1: "north"}, lambda metadata: True])
def test_feedback_needs_values_to_keep_judgements_apart(made, where):
    with pytest.raises(InputError, match="`where` must be a mapping with strings as keys"):
        made().feedback(QUERY, [PASSAGES[1]], where=where)


def test_a_source_that_cannot_filter_says_so(tiny_folders):
    reranker = Reranker(tiny_folders["bert"], device="cpu", example_store=Source([[]]))

    with pytest.raises(BackendError, match=r"TypeError: .*where"):
        reranker.rank(QUERY, PASSAGES, where=NORTH)


def test_the_same_in_an_event_loop(made):
    reranker = made()

    async def work():
        await reranker.afeedback(QUERY, [PASSAGES[1]], where=NORTH)
        one = await reranker.arank(QUERY, PASSAGES, where=NORTH)
        return [one, *await reranker.arank_many([QUERY, QUERY], [PASSAGES, PASSAGES[:2]], where=NORTH)]

    assert [marks(ranking) for ranking in asyncio.run(work())] == [{1: "relevant"}] * 3
