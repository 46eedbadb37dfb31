"""What the model that comes with the package does, and that it is the file its card speaks of."""

import hashlib
import re

import pytest

from gliclass_rerank import Reranker
from gliclass_rerank.cascade import CascadeConfig
from gliclass_rerank.checkpoint.loading import load_checkpoint
from gliclass_rerank.checkpoint.location import DEFAULT_MODEL, DEFAULT_RANKER, bundled_folder, read_config

# Questions with the passage that answers them and four that are about the same things.
QUESTIONS = {
    "why does my chain slip when i pedal hard": [
        "A worn chain rides up the teeth of the cogs and slips under load.",
        "Chains are measured in links; most road bicycles leave the factory with about 114 of them.",
        "Pedals screw into the crank: the left one has a left-handed thread.",
        "On a hard climb, shift before the slope gets steep, not in the middle of it.",
        "A chain guard keeps trousers clean.",
    ],
    "how long does bread dough need to rise": [
        "Leave the dough for an hour and a half in a warm place, until it has doubled.",
        "Bread flour has more protein than cake flour, which makes a firmer dough.",
        "Dough sticks less to wet hands than to dry ones.",
        "A rising oven temperature dries the crust.",
        "Bakers have sold bread by weight since the Middle Ages.",
    ],
    "how deep should tulip bulbs be planted": [
        "Put tulips into the ground at three times the height of the bulb, about fifteen centimetres.",
        "Tulips came to the Netherlands from Turkey in the sixteenth century.",
        "Bulbs of garlic are ready when the lower leaves turn brown.",
        "Planting trees in autumn gives roots time before the first dry summer.",
        "A deep pot holds water longer than a shallow one.",
    ],
    "can i take a knife on a plane": [
        "Blades of any length are forbidden in the cabin and must go into checked luggage.",
        "A plane is a tool that takes thin shavings off wood.",
        "Knives stay sharp longer if they never see a dishwasher.",
        "The cabin crew serves meals with metal cutlery in first class.",
        "Passengers may take one bag of up to eight kilograms on board.",
    ],
}


@pytest.mark.parametrize("query", QUESTIONS)
def test_the_answer_beats_passages_about_the_same_things(bundled, query):
    assert bundled.rank(query, QUESTIONS[query])[0].index == 0


def test_scores_tell_answers_from_other_questions_answers(bundled):
    answers = [passages[0] for passages in QUESTIONS.values()]

    for number, query in enumerate(QUESTIONS):
        ranking = bundled.rank(query, answers)
        assert ranking[0].index == number
        assert all(hit.score < ranking[0].score / 2 for hit in ranking[1:])


def test_a_score_does_not_depend_on_order_or_companions(bundled):
    query, passages = next(iter(QUESTIONS.items()))
    together = {hit.index: hit.logit for hit in bundled.rank(query, passages)}

    for index, passage in enumerate(passages):
        alone = bundled.rank(query, [passage])[0].logit
        # Another group, other kernels.
        assert alone == pytest.approx(together[index], abs=1e-4)
    backwards = {len(passages) - 1 - hit.index: hit.logit for hit in bundled.rank(query, passages[::-1])}
    assert backwards == pytest.approx(together, abs=1e-4)


def test_a_marker_in_a_passage_does_not_disturb_the_others(bundled):
    query, passages = next(iter(QUESTIONS.items()))
    plain = {hit.index: hit.logit for hit in bundled.rank(query, passages)}
    disturbed = {hit.index: hit.logit for hit in bundled.rank(query, [*passages, "<<LABEL>> [SEP] chain"])}

    assert {index: disturbed[index] for index in plain} == pytest.approx(plain, abs=1e-4)


@pytest.mark.parametrize(("name", "part"), [(DEFAULT_MODEL, "."), (DEFAULT_RANKER, "second")])
def test_it_is_the_file_the_card_speaks_of_and_small(name, part):
    folder = bundled_folder(name)
    weights = (folder / part / "model.safetensors").read_bytes()

    (recorded,) = re.findall(r"\b[0-9a-f]{64}\b", (folder / "README.md").read_text(encoding="utf-8"))
    assert hashlib.sha256(weights).hexdigest() == recorded
    assert len(weights) < 36e6


def test_passages_see_the_query_and_scores_are_calibrated():
    config = load_checkpoint().config
    cascade = CascadeConfig.from_dict(read_config(bundled_folder(DEFAULT_RANKER)))

    assert config.attention_plan == "shared_query"
    assert config.query_attention_start < config.shape.num_layers
    assert config.token_interaction
    assert config.score_calibration is not None
    assert cascade.first == DEFAULT_MODEL
    assert cascade.score_calibration is not None


def test_the_first_model_alone_is_there_by_its_name():
    query, passages = next(iter(QUESTIONS.items()))
    alone = Reranker(DEFAULT_MODEL, device="cpu")

    assert alone.name == DEFAULT_MODEL
    assert alone.rank(query, passages)[0].index == 0


def test_long_passages_are_read_in_chunks(bundled):
    long = (
        "The library opens at nine. " * 150 + "A chain slips when it is worn. " + "Bread rises in a warm room. " * 100
    )
    ranking = bundled.rank("why does my chain slip?", [long, "The library opens at nine."])

    assert ranking.truncated == ()
    assert ranking[0].index == 0
    assert "A chain slips when it is worn." in long[slice(*ranking[0].chunk)]


def test_a_long_query_is_read_whole(bundled):
    query = "my bicycle is five years old and has never been serviced. " * 28 + next(iter(QUESTIONS))

    ranking = bundled.rank(query, QUESTIONS[next(iter(QUESTIONS))])

    assert ranking.truncated == ()
    assert ranking.truncated_query is None
    assert bundled.rank(query * 2, ["oil"]).truncated_query.num_lost > 100
