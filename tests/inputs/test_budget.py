"""Examples get a budget; every word is one token."""

import random

import pytest
from planned import contains, ids_of
from tiny_checkpoints import tiny_tokenizer, words

from gliclass_rerank.prompt.budget import fit_examples
from gliclass_rerank.prompt.layout import PromptLayout, ScoringRequest
from gliclass_rerank.prompt.planner import SharedQueryPlanner, WindowPlanner
from gliclass_rerank.prompt.tokenizer import TextTokenizer
from gliclass_rerank.types import Example, Truncation


@pytest.fixture
def layout():
    return PromptLayout(TextTokenizer(tiny_tokenizer()), prompt_first=True)


def ask_with(*examples, query=2, example_format="few_shot", candidates=("oil",), **settings):
    return ScoringRequest(
        text=words(query), candidates=candidates, examples=examples, example_format=example_format, **settings
    )


def size(layout, ask):
    return len(layout.query_block(ask).ids) - len(layout.query_block(ask_with(query=len(ask.text.split()))).ids)


def example(text, *labels, first=20):
    return Example(words(text, first=first), tuple(words(label, first=first + 5) for label in labels))


def test_what_fits_is_left_alone(layout):
    ask = ask_with(example(3, 4), example(2, 6))

    assert fit_examples(layout, ask, size(layout, ask)) == (ask, ())
    assert fit_examples(layout, ask_with(), 0) == (ask_with(), ())


def test_the_longest_parts_are_cut_first_to_one_length(layout):
    ask = ask_with(example(3, 9), example(2, 12))

    fitted, cut = fit_examples(layout, ask, size(layout, ask) - 9)

    assert [len(label.split()) for shown in fitted.examples for label in shown.true_labels] == [6, 6]
    assert [shown.text for shown in fitted.examples] == [words(3, first=20), words(2, first=20)]
    assert cut == (Truncation(0, num_tokens=12, num_lost=3), Truncation(1, num_tokens=14, num_lost=6))
    assert fitted.examples[0].true_labels[0] == words(6, first=25)
    assert (fitted.text, fitted.candidates) == (ask.text, ask.candidates)
    assert ask.examples[0] == example(3, 9)


def test_false_labels_are_cut_where_they_are_shown_and_kept_where_they_are_not(layout):
    shown = Example(words(2), (words(2),), (words(9), words(8)))

    ask = ask_with(shown, example_format="rac")
    rac, _ = fit_examples(layout, ask, size(layout, ask) - 5)
    few, cut = fit_examples(layout, ask_with(Example(words(9), (), (words(9),))), 16)

    assert rac.examples[0] == Example(words(2), (words(2),), (words(6), words(6)))
    assert few.examples[0].false_labels == (words(9),)
    assert cut[0].num_tokens == 9


@pytest.mark.parametrize(
    ("most", "num_true", "num_false", "expected"),
    [
        (4, 6, 6, (2, 2)),
        (4, 6, 1, (3, 1)),
        (4, 1, 6, (1, 3)),
        (4, 0, 6, (0, 4)),
        (4, 6, 0, (4, 0)),
        (3, 6, 6, (2, 1)),
        (1, 6, 6, (1, 0)),
        (1, 0, 6, (0, 1)),
        (4, 2, 2, (2, 2)),
        (9, 6, 2, (6, 2)),
        (None, 6, 6, (6, 6)),
    ],
)
def test_of_many_labels_the_first_are_shown_both_kinds_alike(layout, most, num_true, num_false, expected):
    judged = Example(
        words(2), [words(1, first=n) for n in range(num_true)], [words(1, first=20 + n) for n in range(num_false)]
    )
    ask = ask_with(judged, example_format="rac", max_example_labels=most)

    fitted, cut = fit_examples(layout, ask, 1000)

    (shown,) = fitted.examples
    assert shown == Example(judged.text, judged.true_labels[: expected[0]], judged.false_labels[: expected[1]])
    num_lost = num_true + num_false - sum(expected)
    assert cut == ((Truncation(0, 2 + num_true + num_false, num_lost),) if num_lost else ())
    assert ask.examples == (judged,)


def test_where_false_labels_are_not_shown_true_ones_get_all_places(layout):
    judged = Example(words(2), [words(1, first=n) for n in range(6)], [words(1, first=20 + n) for n in range(6)])

    fitted, cut = fit_examples(layout, ask_with(judged, max_example_labels=4), 1000)

    assert fitted.examples == (Example(judged.text, judged.true_labels[:4], judged.false_labels),)
    assert cut == (Truncation(0, 8, 2),)


def test_labels_left_out_and_tokens_cut_are_reported_together(layout):
    many, few = Example(words(2), [words(9)] * 5), Example(words(2), [words(9)] * 2)
    ask = ask_with(few, many, max_example_labels=2)
    short = size(layout, ask_with(few, few)) - 8

    fitted, cut = fit_examples(layout, ask, short)

    assert [[len(label.split()) for label in shown.true_labels] for shown in fitted.examples] == [[7, 7], [7, 7]]
    assert cut == (Truncation(0, 20, 4), Truncation(1, 47, 31))
    assert fit_examples(layout, ask, 0)[1] == (Truncation(0, 20, 20), Truncation(1, 47, 47))


def test_the_last_examples_are_left_out_if_cutting_is_not_enough(layout):
    ask = ask_with(*[example(2, 2)] * 3)

    fitted, cut = fit_examples(layout, ask, size(layout, ask_with(example(2, 2))) + 3)

    assert fitted.examples == ask.examples[:1]
    assert cut == (Truncation(1, 4, 4), Truncation(2, 4, 4))


@pytest.mark.parametrize("room", [0, -7, 1])
def test_without_room_there_are_no_examples(layout, room):
    fitted, cut = fit_examples(layout, ask_with(example(2, 3)), room)

    assert fitted.examples == ()
    assert cut == (Truncation(0, 5, 5),)


@pytest.mark.parametrize("example_format", ["rac", "few_shot"])
def test_random_examples_keep_their_budget_and_nothing_is_lost_unreported(layout, example_format):
    rng = random.Random(5)
    for _ in range(60):
        examples = [
            Example(words(rng.randint(0, 9)), [words(rng.randint(0, 19)) for _ in range(rng.randint(0, 3))])
            for _ in range(rng.randint(1, 5))
        ]
        ask = ask_with(*examples, example_format=example_format)
        room = rng.randint(0, size(layout, ask) + 3)

        fitted, cut = fit_examples(layout, ask, room)

        assert size(layout, fitted) <= room
        lost = {truncation.index: truncation.num_lost for truncation in cut}
        for index, whole in enumerate(examples):
            before = len(" ".join((whole.text, *whole.true_labels)).split())
            kept = fitted.examples[index] if index < len(fitted.examples) else Example("")
            after = len(" ".join((kept.text, *kept.true_labels)).split())
            assert before - after == lost.get(index, 0)
        assert not cut or room < size(layout, ask)


def test_a_shared_query_keeps_all_its_tokens_and_examples_get_the_rest(layout):
    planner = SharedQueryPlanner(layout=layout, max_window_tokens=41)

    plan = planner.plan(ask_with(example(9, 60), query=20), truncate_side="candidates")

    (blocks,) = plan.requests
    assert contains(blocks.query_ids, ids_of(layout, words(20)))
    assert len(blocks.query_ids) <= 41
    assert plan.truncated_examples[0].num_lost > 50


def test_a_window_keeps_a_quarter_for_passages(layout):
    planner = WindowPlanner(layout=layout, max_window_tokens=80, window_tokens=lambda overhead: 80)

    plan = planner.plan(ask_with(example(9, 200), candidates=[words(50)]), truncate_side="candidates")

    (window,) = plan.requests
    assert contains(window.token_ids, ids_of(layout, words(18)))
    assert len(window.token_ids) <= 80
    assert plan.truncated_examples


@pytest.mark.parametrize("planner_of", ["shared", "window"])
def test_a_text_that_is_classified_and_its_examples_share_the_room(layout, planner_of):
    planner = (
        SharedQueryPlanner(layout=layout, max_window_tokens=80)
        if planner_of == "shared"
        else WindowPlanner(layout=layout, max_window_tokens=80, window_tokens=lambda overhead: 80)
    )

    plan = planner.plan(ask_with(example(9, 200), query=200), truncate_side="text")

    assert plan.text_truncation.num_lost < 200 - 30
    assert plan.truncated_examples[0].num_lost < 209 - 20


def test_a_setting_limits_examples_further(layout):
    ask = ask_with(example(9, 20))
    free = SharedQueryPlanner(layout=layout, max_window_tokens=80)
    limited = SharedQueryPlanner(layout=layout, max_window_tokens=80, max_example_tokens=25)

    plans = [planner.plan(ask, truncate_side="candidates") for planner in (free, limited)]

    assert plans[0].truncated_examples == ()
    assert len(plans[1].requests[0].query_ids) <= 2 + 2 + 25
