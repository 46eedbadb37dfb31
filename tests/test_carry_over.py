"""Judgements of similar queries, carried over to the very passages they were given on."""

import math

import numpy as np
import pytest
from example_stores import Source

from gliclass_rerank import Example, Reranker
from gliclass_rerank.examples import CallableEncoder, ExampleStore
from gliclass_rerank.stage import RerankStage

PASSAGES = ["Lift: ring the bell.", "Printer: open the tray.", "Museum: closed.", "Printer: pull."]


def encode(texts):
    """A text's first word is its angle in degrees, 180 by default."""
    words = [text.split()[0] for text in texts]
    angles = np.radians([float(word) if word.isdigit() else 180 for word in words])
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


@pytest.fixture
def store():
    with ExampleStore(None, CallableEncoder(encode, name="angles")) as made:
        yield made


@pytest.fixture
def reranker(tiny_folders, store):
    return Reranker(tiny_folders["bert"], device="cpu", example_store=store)


@pytest.fixture
def plain(tiny_folders):
    return Reranker(tiny_folders["bert"], device="cpu")


def logits(ranking):
    return {hit.text: hit.logit for hit in ranking}


def gains(reranker, plain, query="0 who is stuck?", passages=PASSAGES):
    """Gains of passages by the store, without those that gain nothing."""
    found, bare = logits(reranker.rank(query, passages)), logits(plain.rank(query, passages))
    return {text: found[text] - bare[text] for text in passages if found[text] != pytest.approx(bare[text], abs=1e-6)}


def test_what_was_judged_for_a_similar_query_gains_or_loses_log_odds(reranker, plain):
    reranker.feedback("20 Larry is stuck", relevant=[PASSAGES[2]], irrelevant=[PASSAGES[0]])

    found = gains(reranker, plain)

    wanted = 8 * ((math.cos(math.radians(20)) - 0.3) / 0.7) ** 2
    assert found == {PASSAGES[2]: pytest.approx(wanted, abs=1e-4), PASSAGES[0]: pytest.approx(-wanted, abs=1e-4)}
    ranking = reranker.rank("0 who is stuck?", PASSAGES)
    assert (ranking[0].text, ranking[-1].text) == (PASSAGES[2], PASSAGES[0])
    assert ranking[0].judged is None
    assert [hit.carried_over for hit in ranking] == pytest.approx([wanted, None, None, -wanted], abs=1e-4)
    assert [hit.to_dict().get("carried_over") for hit in ranking] == [hit.carried_over for hit in ranking]
    assert ranking[0].score > 0.95
    assert [example.text for example in ranking.examples] == ["20 Larry is stuck"]


def test_a_calibrated_score_gains_the_same_log_odds(bundled, store):
    with_store = Reranker(device="cpu", example_store=store)
    store.add([Example("45 Larry is stuck", (PASSAGES[2],))])

    def log_odds(reranker):
        (hit,) = [hit for hit in reranker.rank("0 who is stuck?", PASSAGES) if hit.index == 2]
        return math.log(hit.score / (1 - hit.score))

    wanted = 8 * ((math.cos(math.radians(45)) - 0.3) / 0.7) ** 2
    assert log_odds(with_store) - log_odds(bundled) == pytest.approx(wanted, abs=1e-3)


def test_the_nearer_the_query_the_more(reranker, plain):
    store, found = reranker.example_store, []
    for angle in (50, 40, 20, 5):
        store.add([Example(f"{angle} Larry", (PASSAGES[2],))])
        found.append(gains(reranker, plain)[PASSAGES[2]])

    assert found == sorted(found)
    assert found[-1] == pytest.approx(8, abs=0.2)


def test_what_is_no_candidate_is_shown_and_not_carried_over(reranker, plain):
    store = reranker.example_store
    store.add([Example("20 Larry", ("Something else.",)), Example("25 Larry", (PASSAGES[1],))])

    ranking = reranker.rank("0 who is stuck?", PASSAGES)

    assert [example.text for example in ranking.examples] == ["20 Larry", "25 Larry"]
    shown = plain.rank("0 who is stuck?", PASSAGES, examples=ranking.examples[:1])
    found = logits(ranking)
    assert {text: found[text] for text in PASSAGES if text != PASSAGES[1]} == pytest.approx(
        {text: logit for text, logit in logits(shown).items() if text != PASSAGES[1]}, abs=1e-6
    )
    assert found[PASSAGES[1]] > logits(shown)[PASSAGES[1]] + 1


def test_judgements_count_where_no_example_is_shown(tiny_folders, store, plain):
    query = "0 who is stuck?"
    store.add([Example("20 Larry", ("Something else.",)), Example("25 Larry", (PASSAGES[1],))])
    store.add_judgements(Example(query, (PASSAGES[3],)))

    ranking = Reranker(tiny_folders["bert"], device="cpu", example_store=store, num_examples=0).rank(query, PASSAGES)

    assert [example.text for example in ranking.examples] == ["25 Larry"]
    assert ranking[0].judged == "relevant"
    found, bare = logits(ranking), logits(plain.rank(query, PASSAGES))
    assert found.pop(PASSAGES[1]) > bare.pop(PASSAGES[1]) + 1
    assert found == pytest.approx(bare, abs=1e-6)


def test_the_querys_own_judgements_count_from_any_source(tiny_folders, plain):
    query = "0 who is stuck?"
    source = Source([[Example(query, (PASSAGES[3],))]])

    ranking = Reranker(tiny_folders["bert"], device="cpu", example_store=source, num_examples=0).rank(query, PASSAGES)

    assert ranking.examples == ()
    assert ranking[0].judged == "relevant"
    assert logits(ranking) == pytest.approx(logits(plain.rank(query, PASSAGES)), abs=1e-6)


def test_dissimilar_queries_and_examples_by_hand_change_nothing(reranker, plain):
    reranker.feedback("70 Larry is stuck", relevant=[PASSAGES[2]])
    assert gains(reranker, plain) == {}

    by_hand = [Example("0 Larry", (PASSAGES[2],))]
    found = reranker.rank("0 who is stuck?", PASSAGES, examples=by_hand)
    assert logits(found) == pytest.approx(logits(plain.rank("0 who is stuck?", PASSAGES, examples=by_hand)), abs=1e-6)


def test_the_settings_gate_it(tiny_folders, store, plain):
    store.add([Example("20 Larry", (PASSAGES[2],))])

    strict = Reranker(tiny_folders["bert"], device="cpu", example_store=store, min_example_similarity=0.95)

    assert gains(strict, plain) == {}


def test_in_a_crowd_no_query_is_alike(reranker, plain):
    reranker.example_store.add([Example("30 Larry", (PASSAGES[2],))])
    alone = gains(reranker, plain)[PASSAGES[2]]

    reranker.example_store.add([Example(f"{31 + number} other", (f"Passage {number}.",)) for number in range(10)])
    crowded = reranker.recall(["0 who is stuck?"], [PASSAGES])[0].log_odds[2]

    assert 0 < crowded < alone / 3


def test_a_question_that_many_have_asked_is_no_crowd(reranker):
    reranker.example_store.add([Example(f"{30 + number} Larry", (PASSAGES[2],)) for number in range(12)])

    assert reranker.recall(["0 who is stuck?"], [PASSAGES])[0].log_odds[2] > 3


def test_the_query_itself_is_judged_and_not_carried_over(reranker):
    query = "0 who is stuck?"
    reranker.feedback(query, relevant=[PASSAGES[3]])

    (recalled,) = reranker.recall([query], [PASSAGES])

    assert recalled.log_odds == ()
    assert recalled.judged(PASSAGES) == [None, None, None, "relevant"]


def test_order_and_companions_change_no_gain(reranker, plain):
    reranker.feedback("20 Larry is stuck", relevant=PASSAGES[1:3])
    expected = gains(reranker, plain)

    assert gains(reranker, plain, passages=PASSAGES[::-1]) == pytest.approx(expected, abs=1e-5)
    assert gains(reranker, plain, passages=[PASSAGES[2]]) == {
        PASSAGES[2]: pytest.approx(expected[PASSAGES[2]], abs=1e-5)
    }
    assert gains(reranker, plain, passages=[PASSAGES[2].upper()]) != {}


def test_a_stage_with_prefixes_carries_over_what_was_judged_without(tiny_folders, store):
    store.add([Example("20 Larry", (PASSAGES[2],))])

    def logits_of(source):
        stage = RerankStage(
            tiny_folders["bert"], device="cpu", example_store=source, query_prefix="query: ", passage_prefix="passage: "
        )
        return {hit.index: hit.logit for hit in stage.run("0 who is stuck?", PASSAGES)}

    found, bare = logits_of(store), logits_of(None)

    assert found.pop(2) > bare.pop(2) + 1
    assert found == pytest.approx(bare, abs=1e-6)


def test_a_source_that_tells_no_similarity_has_its_examples_shown(tiny_folders, plain):
    example = Example("20 Larry", (PASSAGES[2],))
    reranker = Reranker(tiny_folders["bert"], device="cpu", example_store=Source([[example]]))

    found = reranker.rank("0 who is stuck?", PASSAGES)

    assert logits(found) == pytest.approx(logits(plain.rank("0 who is stuck?", PASSAGES, examples=[example])), abs=1e-6)
