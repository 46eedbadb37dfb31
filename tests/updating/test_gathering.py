"""Signals by query, gains, training lists and propensities."""

import random

import pytest

from gliclass_rerank.feedback import FeedbackLog, LoggedRanking, ShownPassage
from gliclass_rerank.learn import LearnSettings
from gliclass_rerank.learn.updating.gathering import Impression, QueryFeedback, gather, is_held_out
from gliclass_rerank.learn.updating.lists import gain_lists, passage_gains, record_of
from gliclass_rerank.learn.updating.propensity import Propensities, estimate

SETTINGS = LearnSettings()
TEXTS = ("Lift: ring the bell.", "Printer: open the tray.", "Museum: closed.")


def ranking(name, query="Larry is stuck", texts=TEXTS):
    shown = tuple(ShownPassage(index, 1.0 - index, 0.5, text) for index, text in enumerate(texts))
    return LoggedRanking(name, 1.0, "tiny@1", query, shown)


@pytest.fixture
def log(tmp_path):
    with FeedbackLog(tmp_path / "feedback.db") as made:
        yield made


def test_signals_on_spellings_of_a_query_are_one_querys(log):
    log.add([ranking("a"), ranking("b", "larry  is STUCK"), ranking("c", "another"), ranking("d", "never clicked")])
    log.clicks("a", [1])
    log.clicks("b", [1, 2])
    log.graded("c", {0: 3, 1: 0})
    log.judged("Larry is stuck", relevant=["Only here."])

    found = gather(log)

    first, second = found.queries
    assert (first.query, first.num_signals, dict(first.judged)) == ("Larry is stuck", 4, {"Only here.": 1.0})
    assert [sorted(each.clicked) for each in first.impressions] == [[1], [1, 2]]
    assert first.candidates() == ["Only here.", *TEXTS]
    assert dict(second.judged) == {TEXTS[0]: 3.0, TEXTS[1]: 0.0}
    assert found.num_signals == 6


def test_a_signal_repeated_on_one_list_counts_once_and_the_last_grade_wins(log):
    log.add([ranking("a")])
    for _ in range(50):
        log.clicks("a", [1])
    log.graded("a", {0: 1})
    log.graded("a", {0: 0})

    (query,) = gather(log).queries

    assert query.num_signals == 2
    assert dict(query.judged) == {TEXTS[0]: 0.0}


def test_judgements_of_several_users_are_averaged(log):
    log.add([ranking(name) for name in "abc"])
    for name, grade in zip("abc", (1, 1, 0), strict=True):
        log.graded(name, {0: grade})

    (query,) = gather(log).queries

    assert query.judged[TEXTS[0]] == pytest.approx(2 / 3)


def test_rankings_without_texts_are_counted_apart(tmp_path):
    with FeedbackLog(tmp_path / "feedback.db", keep_texts=False) as log:
        log.add([ranking("a")])
        log.clicks("a", [1])
        log.judged("Larry is stuck", relevant=["Only here."])

        found = gather(log)

    assert (found.queries, found.num_without_texts) == ((), 2)


def test_a_held_out_query_stays_held_out_in_any_spelling():
    queries = [f"query {number}" for number in range(2000)]
    chosen = [is_held_out(query, share=0.2, seed=0) for query in queries]

    assert sum(chosen) == pytest.approx(400, abs=60)
    assert chosen == [is_held_out(f" {query.upper()}", share=0.2, seed=0) for query in queries]
    assert chosen != [is_held_out(query, share=0.2, seed=1) for query in queries]


# Gains


def feedback(*clicked, judged=None):
    impressions = tuple(Impression(TEXTS, (1.0, 0.5, 0.0), frozenset(places)) for places in clicked)
    return QueryFeedback("Larry is stuck", judged or {}, impressions, 1)


def test_a_click_low_in_the_list_weighs_more_with_propensities():
    one = feedback({0}, {2})

    assert passage_gains(one, None) == {TEXTS[0]: 1.0, TEXTS[2]: 1.0}
    gains = passage_gains(one, Propensities(1.0))
    assert gains[TEXTS[2]] == 1.0
    assert gains[TEXTS[0]] == pytest.approx(1 / 3)


def test_judgements_come_before_clicks():
    gains = passage_gains(feedback({0}, {2}, judged={TEXTS[1]: 2.0, TEXTS[2]: 0.0}), None)

    assert gains == {TEXTS[0]: 0.5, TEXTS[1]: 1.0, TEXTS[2]: 0.0}


def test_a_list_holds_passages_with_signals_first_and_is_filled_from_other_lists():
    others = QueryFeedback("other", {}, (Impression(tuple("abcdefghij"), (0.0,) * 10, frozenset({9})),), 1)
    lonely = QueryFeedback("lonely", {"Only here.": 1.0}, (), 1)

    (first, second) = gain_lists([others, lonely], None, LearnSettings(max_passages=3))

    assert (first.passages, first.gains) == (("j", "a", "b"), (1.0, 0.0, 0.0))
    assert second.passages[0] == "Only here."
    assert len(second.passages) == 3


def test_a_query_with_nothing_but_dislikes_aims_at_the_rest_of_the_list():
    (one,) = gain_lists([feedback(set(), judged={TEXTS[0]: 0.0})], None, SETTINGS)

    record = record_of(one, [3.0, 1.0, 1.0], 2)

    assert record["grades"][0] == 0.0
    assert record["grades"][1] == record["grades"][2] > 0
    assert record["passages"][0] == "Lift: ring"
    assert record["teacher_scores"] == {"start": [3.0, 1.0, 1.0]}


# Propensities


def simulated(decay, count, seed=0):
    """Lists in an order that agrees with relevance somewhat, and clicks of users who look at 1 / place^decay."""
    rng, found = random.Random(seed), []
    for _ in range(count):
        logits = sorted((rng.gauss(0, 1) for _ in range(8)), reverse=True)
        clicked = {
            place
            for place, logit in enumerate(logits)
            if rng.random() < (place + 1) ** -decay and logit + rng.gauss(0, 1) > 0.5
        }
        found.append(Impression(tuple("abcdefgh"), tuple(logits), frozenset(clicked)))
    return found


@pytest.mark.parametrize("decay", [0.0, 1.0, 2.0])
def test_the_decay_of_simulated_users_is_found(decay):
    assert estimate(simulated(decay, 3000)).decay == pytest.approx(decay, abs=0.35)


def test_without_clicks_the_usual_decay_is_taken():
    assert estimate([]).decay == 1.0
    assert estimate([Impression(TEXTS, (1.0, 0.5, 0.0), frozenset())]).decay == 1.0


def test_weights_of_clicks_are_bounded():
    assert Propensities(3.0).at(50) == 0.1
    assert Propensities(1.0).at(0) == 1.0
