"""Verdicts of the gate."""

import ast
import random

import pytest

from gliclass_rerank.learn import LearnSettings
from gliclass_rerank.learn.updating.comparing import compare
from gliclass_rerank.learn.updating.gate import CLICKED, JUDGED, PUBLIC, judge
from gliclass_rerank.learn.updating.held_out import Figures
from gliclass_rerank.learn.updating.public_questions import public_questions

SETTINGS = LearnSettings()
RNG = random.Random(0)
BASE = [RNG.random() for _ in range(60)]
BETTER = [value + 0.1 + RNG.gauss(0, 0.05) for value in BASE]
CHANCE = [value + RNG.gauss(0, 0.05) for value in BASE]
WORSE = [value - 0.1 + RNG.gauss(0, 0.05) for value in BASE]


def verdict(judged=((), ()), clicked=((), ()), public=(BASE, BASE)):
    old, new = (Figures(judged[side], clicked[side], public[side]) for side in (0, 1))
    return judge(old, new, SETTINGS)


def test_a_model_that_is_better_with_confidence_is_accepted():
    found = verdict(judged=(BASE, BETTER))

    assert found.is_accepted
    assert [each.name for each in found.comparisons] == [JUDGED, PUBLIC]
    assert 0 < found.comparisons[0].low < found.comparisons[0].gain < found.comparisons[0].high
    assert verdict(clicked=(BASE, BETTER)).is_accepted


@pytest.mark.parametrize("new", [BASE, CHANCE])
def test_a_model_that_may_be_better_by_chance_is_refused(new):
    (reason,) = verdict(judged=(BASE, new)).reasons

    assert reason.startswith("it is not better with 95% confidence (nDCG@10 of judgements ")


def test_clicks_do_not_outweigh_judgements_that_say_it_is_worse():
    (reason,) = verdict(judged=(BASE, WORSE), clicked=(BASE, BETTER)).reasons

    assert reason.startswith(f"{JUDGED} became worse: ")


def test_two_kinds_of_signals_share_the_doubt():
    both = verdict(judged=(BASE, CHANCE), clicked=(BASE, CHANCE)).comparisons[0]

    assert both.low < verdict(judged=(BASE, CHANCE)).comparisons[0].low
    assert both.name != CLICKED


def test_a_model_that_forgot_other_things_is_refused():
    (reason,) = verdict(judged=(BASE, BETTER), public=(BASE, WORSE)).reasons

    assert reason.startswith(f"{PUBLIC} fell by more than 0.02: ")


def test_a_few_held_out_queries_prove_nothing():
    (reason,) = verdict(judged=(BASE[:19], [1.0] * 19)).reasons

    assert reason == "only 19 held-out queries have feedback, and the gate needs 20"


def test_without_public_questions_nothing_is_accepted():
    (reason,) = verdict(judged=(BASE, BETTER), public=((), ())).reasons

    assert "sources are missing" in reason


def test_bounds_hold_the_truth_as_often_as_they_say():
    rng, held = random.Random(1), 0
    for _ in range(60):
        differences = [rng.gauss(0.05, 0.3) for _ in range(50)]
        held += compare("x", [0.0] * 50, differences, confidence=0.95).low <= 0.05

    assert 51 <= held < 60


def test_public_questions_are_the_same_each_time_and_never_hold_their_answer():
    questions = public_questions()

    assert questions == public_questions()
    assert len(questions) >= 60
    assert all(question.passages[question.answer] for question in questions)
    assert all(question.text not in question.passages for question in questions)
    assert len({question.answer for question in questions}) > 1


def test_without_sources_there_are_no_public_questions(monkeypatch):
    monkeypatch.setattr(ast, "parse", lambda *_: (_ for _ in ()).throw(SyntaxError))

    assert public_questions() == []
