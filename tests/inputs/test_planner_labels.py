"""Classifying: the text yields, labels, prompt and examples survive. Every word is one token."""

import pytest
from planned import contains, ids_of, tokens_after
from tiny_checkpoints import WORDS, tiny_tokenizer, words

from gliclass_rerank.errors import WindowOverflowError
from gliclass_rerank.prompt.layout import PromptLayout, ScoringRequest
from gliclass_rerank.prompt.planner import WindowPlanner
from gliclass_rerank.prompt.tokenizer import TextTokenizer
from gliclass_rerank.types import Example, Truncation

MAX = 31
FRAME = 3  # [CLS] <<SEP>> [SEP]


@pytest.fixture(params=[True, False], ids=["prompt_first", "text_first"])
def layout(request):
    return PromptLayout(TextTokenizer(tiny_tokenizer()), prompt_first=request.param)


def window_planner(layout, *, max_window_tokens=MAX):
    return WindowPlanner(layout=layout, max_window_tokens=max_window_tokens, window_tokens=lambda _: 1)


def test_a_long_text_is_cut_at_its_end_and_reported(layout):
    ask = ScoringRequest(text=words(53), candidates=[words(1), words(2)], prompt=words(2, first=40) + " ")

    plan = window_planner(layout).plan(ask, truncate_side="text")

    (window,) = plan.requests
    kept = MAX - FRAME - 2 - (1 + 1) - (1 + 2)
    assert len(window.token_ids) == MAX
    assert plan.text_truncation == Truncation(0, num_tokens=53, num_lost=53 - kept)
    assert contains(window.token_ids, ids_of(layout, words(kept)))
    assert contains(window.token_ids, ids_of(layout, words(2, first=40)))


@pytest.mark.parametrize("example_format", ["rac", "few_shot"])
def test_examples_survive_when_the_text_is_cut(layout, example_format):
    example = Example(words(2, first=20), true_labels=(words(2, first=30),))
    ask = ScoringRequest(text=words(50), candidates=["oil"], examples=(example,), example_format=example_format)

    (window,) = window_planner(layout, max_window_tokens=83).plan(ask, truncate_side="text").requests

    assert contains(window.token_ids, ids_of(layout, example.text))
    assert contains(window.token_ids, ids_of(layout, example.true_labels[0]))


def test_all_labels_share_a_window_while_the_text_keeps_half_of_the_room(layout):
    ask = ScoringRequest(text=words(53), candidates=["oil"] * 7)  # 14 of the 28 tokens that the frame leaves

    plan = window_planner(layout).plan(ask, truncate_side="text")

    assert plan.members == (tuple(range(7)),)


def test_more_labels_are_spread_over_windows_and_none_is_lost(layout):
    labels = [f"{WORDS[number % 50]} {WORDS[number // 50]}" for number in range(97)]

    plan = window_planner(layout).plan(ScoringRequest(text=words(53), candidates=labels), truncate_side="text")

    assert len(plan.requests) > 1
    assert plan.truncated == ()
    assert [index for members in plan.members for index in members] == list(range(97))
    for window, members in zip(plan.requests, plan.members, strict=True):
        assert len(window.token_ids) <= MAX
        assert [tokens_after(window, position) for position in range(len(members))] == [
            ids_of(layout, labels[index]) for index in members
        ]


def test_every_window_of_a_cut_text_shows_the_same_text(layout):
    plan = window_planner(layout).plan(
        ScoringRequest(text=words(53), candidates=["oil wax"] * 19), truncate_side="text"
    )

    kept = plan.text_truncation.num_tokens - plan.text_truncation.num_lost
    assert kept >= (MAX - FRAME) // 2
    assert all(contains(window.token_ids, ids_of(layout, words(kept))) for window in plan.requests)


def test_a_label_that_leaves_no_room_for_the_text_is_an_error_with_the_numbers(layout):
    ask = ScoringRequest(text=words(5), candidates=["oil", words(27)])

    with pytest.raises(WindowOverflowError) as caught:
        window_planner(layout).plan(ask, truncate_side="text")

    assert str(caught.value) == (
        "prompt, examples and labels take 31 of the window's 31 tokens and leave no room for the text"
    )


def test_a_text_that_fits_is_not_cut(layout):
    plan = window_planner(layout).plan(ScoringRequest(text=words(7), candidates=["oil"]), truncate_side="text")

    assert plan.text_truncation is None
