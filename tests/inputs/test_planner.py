"""Ranking: what survives a window that is too small, and what is said about the rest. Every word is one token."""

import random

import pytest
from planned import contains, ids_of, tokens_after
from tiny_checkpoints import tiny_tokenizer, words

from gliclass_rerank.errors import InputError, WindowOverflowError
from gliclass_rerank.prompt.bi_encoder_planner import BiEncoderPlanner
from gliclass_rerank.prompt.layout import PromptLayout, ScoringRequest
from gliclass_rerank.prompt.planner import SharedQueryPlanner, WindowPlanner
from gliclass_rerank.prompt.tokenizer import TextTokenizer
from gliclass_rerank.types import Example, Truncation

MAX = 31
FRAME = 3  # [CLS] <<SEP>> [SEP]


@pytest.fixture(params=[True, False], ids=["prompt_first", "text_first"])
def layout(request):
    return PromptLayout(TextTokenizer(tiny_tokenizer()), prompt_first=request.param)


def window_planner(layout, *, window_tokens=10_000, max_window_tokens=MAX):
    return WindowPlanner(
        layout=layout, max_window_tokens=max_window_tokens, window_tokens=lambda overhead: window_tokens
    )


def test_the_query_is_whole_in_every_window_however_long_the_passages(layout):
    query = words(5)
    ask = ScoringRequest(text=query, candidates=[words(count) for count in (29, 41, 2, 53, 17)])

    plan = window_planner(layout).plan(ask, truncate_side="candidates")

    assert len(plan.requests) > 1
    for window in plan.requests:
        assert len(window.token_ids) <= MAX
        assert contains(window.token_ids, ids_of(layout, query))


def test_a_cut_passage_is_reported_with_its_length_and_its_loss(layout):
    ask = ScoringRequest(text=words(5), candidates=[words(2), words(29), words(22), words(23)])

    plan = window_planner(layout).plan(ask, truncate_side="candidates")

    room = MAX - FRAME - 5 - 1
    assert room == 22
    assert plan.truncated == (Truncation(1, num_tokens=29, num_lost=7), Truncation(3, num_tokens=23, num_lost=1))
    assert plan.text_truncation is None


def test_a_cut_passage_keeps_its_beginning(layout):
    ask = ScoringRequest(text=words(5), candidates=[words(29)])

    (window,) = window_planner(layout).plan(ask, truncate_side="candidates").requests

    assert tokens_after(window, 0) == ids_of(layout, words(22))


def test_one_token_of_room_is_enough(layout):
    ask = ScoringRequest(text=words(MAX - FRAME - 2), candidates=[words(3)])

    plan = window_planner(layout).plan(ask, truncate_side="candidates")

    assert plan.truncated == (Truncation(0, num_tokens=3, num_lost=2),)


def test_a_query_that_leaves_no_room_is_an_error_with_the_numbers(layout):
    ask = ScoringRequest(text=words(MAX - FRAME - 1), candidates=[words(3)])

    with pytest.raises(WindowOverflowError) as caught:
        window_planner(layout).plan(ask, truncate_side="candidates")

    assert str(caught.value) == ("the query takes 30 of the window's 31 tokens and leaves no room for a passage")


def test_examples_survive_whole_beside_long_passages(layout):
    example = Example(words(3, first=20), true_labels=(words(2, first=30),))
    ask = ScoringRequest(text=words(2), candidates=[words(50)] * 3, examples=(example,), example_format="few_shot")

    plan = window_planner(layout, max_window_tokens=41).plan(ask, truncate_side="candidates")

    for window in plan.requests:
        assert contains(window.token_ids, ids_of(layout, example.text))
        assert contains(window.token_ids, ids_of(layout, example.true_labels[0]))


def test_windows_are_packed_to_the_asked_length_and_evened_out(layout):
    ask = ScoringRequest(text=words(2), candidates=[words(4)] * 7)

    plan = window_planner(layout, window_tokens=FRAME + 2 + 4 * 5, max_window_tokens=211).plan(
        ask, truncate_side="candidates"
    )

    assert plan.members == ((0, 1, 2, 3), (4, 5, 6))


def test_the_window_length_is_chosen_from_what_every_window_repeats(layout):
    seen = []
    planner = WindowPlanner(
        layout=layout, max_window_tokens=MAX, window_tokens=lambda overhead: seen.append(overhead) or MAX
    )

    planner.plan(
        ScoringRequest(text=words(5), candidates=[words(2)], prompt=words(1) + " "), truncate_side="candidates"
    )

    assert seen == [FRAME + 5 + 1]


def test_random_asks_lose_no_candidate_and_only_what_is_reported(layout):
    rng = random.Random(13)
    for _ in range(40):
        candidates = [words(rng.randint(0, 53)) for _ in range(rng.randint(1, 19))]
        planner = window_planner(layout, window_tokens=rng.randint(1, MAX))
        plan = planner.plan(
            ScoringRequest(text=words(rng.randint(1, 19)), candidates=candidates), truncate_side="candidates"
        )
        lost = {cut.index: cut.num_lost for cut in plan.truncated}

        assert [index for members in plan.members for index in members] == list(range(len(candidates)))
        for window, members in zip(plan.requests, plan.members, strict=True):
            assert len(window.token_ids) <= MAX
            for position, index in enumerate(members):
                whole = ids_of(layout, candidates[index])
                assert tokens_after(window, position) == whole[: len(whole) - lost.get(index, 0)]


def test_shared_query_cuts_passages_only_to_the_window_and_reports_it(layout):
    planner = SharedQueryPlanner(layout=layout, max_window_tokens=MAX)

    plan = planner.plan(
        ScoringRequest(text=words(23), candidates=[words(29), words(31), "oil"]), truncate_side="candidates"
    )

    (blocks,) = plan.requests
    assert [len(ids) for ids in blocks.candidate_ids] == [MAX, MAX, 3]
    assert len(blocks.query_ids) == 23 + 2
    assert plan.truncated == (Truncation(1, num_tokens=31, num_lost=2),)
    assert not planner.sees_companions


def test_a_shared_query_longer_than_the_window_is_an_error_with_the_numbers(layout):
    planner = SharedQueryPlanner(layout=layout, max_window_tokens=MAX)

    with pytest.raises(WindowOverflowError) as caught:
        planner.plan(ScoringRequest(text=words(30), candidates=["oil"]), truncate_side="candidates")

    assert str(caught.value) == "the query takes 32 tokens, more than the window's 31"


def test_a_shared_query_yields_when_classifying(layout):
    planner = SharedQueryPlanner(layout=layout, max_window_tokens=MAX)

    plan = planner.plan(ScoringRequest(text=words(47), candidates=["oil"]), truncate_side="text")

    assert plan.text_truncation == Truncation(0, num_tokens=47, num_lost=47 + 2 - MAX)
    assert len(plan.requests[0].query_ids) == MAX


def test_a_bi_encoder_refuses_examples_that_it_would_never_read(layout):
    planner = BiEncoderPlanner(
        layout=layout, max_window_tokens=MAX, label_tokenizer=layout.tokenizer, max_label_tokens=7
    )

    with pytest.raises(InputError, match="`examples` have no place in the architecture 'bi-encoder'"):
        planner.plan(ScoringRequest(text="oil", candidates=["wax"], examples=(Example("rust"),)), truncate_side="text")


def test_a_cut_label_of_a_bi_encoder_keeps_its_closing_token(layout):
    planner = BiEncoderPlanner(
        layout=layout, max_window_tokens=MAX, label_tokenizer=layout.tokenizer, max_label_tokens=7
    )

    plan = planner.plan(ScoringRequest(text="oil", candidates=[words(5), words(11)]), truncate_side="candidates")

    whole, cut = plan.requests[0].candidate_ids
    assert len(whole) == len(cut) == 7
    assert cut[-1:] == layout.tokenizer.suffix_ids
    assert cut[:-1] == whole[:-1]


def test_a_label_that_does_not_fit_its_own_window_is_refused_when_classifying(layout):
    planner = BiEncoderPlanner(
        layout=layout, max_window_tokens=MAX, label_tokenizer=layout.tokenizer, max_label_tokens=7
    )

    with pytest.raises(WindowOverflowError, match="label 1 takes 13 tokens, 6 more than fit its window"):
        planner.plan(ScoringRequest(text="oil", candidates=[words(5), words(11)]), truncate_side="text")
