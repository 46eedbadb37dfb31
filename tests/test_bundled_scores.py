"""Scores of the bundled models on everyday questions: above a half for answers, below for other passages."""

import pytest

from gliclass_rerank import Reranker, ZeroShotClassifier
from gliclass_rerank.checkpoint.location import DEFAULT_MODEL

# Question: passage that answers it, and two about the same things that do not.
QUESTIONS = {
    "how do I reset my password?": (
        "To reset your password, click 'Forgot password' on the sign-in page.",
        "Opening hours are 9 to 5 on weekdays.",
        "Passwords must have at least twelve characters.",
    ),
    "can I return shoes that I have worn?": (
        "Shoes can be sent back within thirty days, provided that they show no signs of wear.",
        "Our shoes are made in Portugal from vegetable-tanned leather.",
        "Parcels are delivered from Monday to Saturday.",
    ),
    "what time does the museum close on Sundays": (
        "The museum is open from 10 am to 6 pm, on Sundays until 5 pm.",
        "Sunday tickets can be bought online.",
        "The museum was founded in 1871.",
    ),
    "how long do boiled eggs keep in the fridge": (
        "Hard-boiled eggs stay good for about a week when chilled in their shells.",
        "Boil the eggs for nine minutes and cool them in iced water.",
        "A fridge should run at four degrees.",
    ),
    "is the swimming pool heated in winter": (
        "From October to April the water in the pool is kept at 28 degrees.",
        "Children under six swim for free.",
        "The gym is heated by solar panels.",
    ),
    "how much does shipping to Canada cost": (
        "Delivery to Canada costs 15 dollars, and is free for orders above 100 dollars.",
        "We ship from our warehouse in Ohio.",
        "Canada has ten provinces and three territories.",
    ),
    "can dogs eat grapes": (
        "Grapes and raisins are poisonous to dogs, even in small amounts.",
        "Dogs need two meals a day.",
        "Grapes are harvested in September.",
    ),
    "who do I call when the heating fails at night": (
        "Outside office hours, please ring the caretaker's emergency line at 555-0199 if the heating stops working.",
        "The heating was renewed in 2019.",
        "Quiet hours are from ten at night to six in the morning.",
    ),
    "how do I remove red wine stains from a carpet": (
        "Blot the wine with a cloth, cover the spot with salt, and wash it out with cold water and a little vinegar.",
        "Carpets should be vacuumed once a week.",
        "Red wine is served at 16 degrees.",
    ),
    "what documents do I need to open a bank account": (
        "Bring an identity card or passport and a proof of address to open an account.",
        "The bank has branches in forty cities.",
        "Accounts with a balance below zero are charged interest.",
    ),
    "how often should I water a cactus": (
        "A cactus needs water every two to three weeks in summer and hardly any in winter.",
        "Cacti come from the Americas.",
        "Repot the plant in spring.",
    ),
    "can I get a refund if I cancel my ticket": (
        "Tickets cancelled at least 24 hours before departure are refunded in full.",
        "Tickets are sold at the counter and online.",
        "Trains leave every thirty minutes.",
    ),
}


@pytest.fixture(scope="module")
def rankings(bundled):
    return bundled.rank_many(list(QUESTIONS), list(QUESTIONS.values()))


def test_an_answer_scores_above_a_half_and_others_below(rankings):
    for query, ranking in zip(QUESTIONS, rankings, strict=True):
        scores = {hit.index: hit.score for hit in ranking}
        assert scores[0] > 0.5 > max(scores[1], scores[2]), query


def test_a_list_without_the_answer_is_less_answerable(bundled, rankings):
    without = bundled.rank_many(list(QUESTIONS), [passages[1:] for passages in QUESTIONS.values()])

    for before, after in zip(rankings, without, strict=True):
        assert 0 <= after.answerable < before.answerable <= 1
    assert max(ranking.answerable for ranking in without) < 0.5


def test_the_first_model_alone_agrees():
    rankings = Reranker(DEFAULT_MODEL, device="cpu").rank_many(list(QUESTIONS), list(QUESTIONS.values()))

    for query, ranking in zip(QUESTIONS, rankings, strict=True):
        assert ranking[0].index == 0
        assert ranking[0].score > 0.5 > ranking[1].score, query


def test_labels_of_everyday_sentences_are_found_at_a_half():
    classifier = ZeroShotClassifier(device="cpu")
    topics = ["sport", "politics", "science", "business"]
    sentences = {
        "The striker scored twice in the cup final.": "sport",
        "The central bank raised interest rates again.": "business",
        "The parliament voted on the new law yesterday.": "politics",
        "Researchers found a new particle at the collider.": "science",
    }
    for found, expected in zip(classifier(list(sentences), topics), sentences.values(), strict=True):
        assert [entry.label for entry in found] == [expected]
    # At a low threshold several labels may apply, the best ones first.
    (found,) = classifier(
        ["One day I will see the world!"], ["travel", "dreams", "sport", "science", "politics"], threshold=0.1
    )
    assert sorted(found, key=lambda entry: -entry.score)[0].label == "travel"
    assert {"travel", "dreams"} <= {entry.label for entry in found}
    assert {"sport", "politics"}.isdisjoint(entry.label for entry in found)
