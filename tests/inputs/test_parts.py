"""Chunks of long texts and groups of labels."""

import pytest
from tiny_checkpoints import tiny_checkpoint, words

from gliclass_rerank.pipeline import build_planner
from gliclass_rerank.prompt.layout import ScoringRequest
from gliclass_rerank.prompt.parts import label_groups, text_chunks
from gliclass_rerank.settings import ModelSettings


@pytest.mark.parametrize("plan", ["joint", "shared_query"])
@pytest.mark.parametrize("backbone", ["bert", "deberta-v2"])
def test_no_chunk_of_a_long_text_is_cut_and_none_of_it_is_lost(backbone, plan):
    planner = build_planner(tiny_checkpoint(backbone), plan, ModelSettings(max_window_tokens=40))
    numbers = [str(number) for number in range(1000, 1400)]
    groups = [
        ScoringRequest(" ".join(numbers), labels, prompt="oil ") for labels in (["wax"], ["rust", "hub rim tire"])
    ]

    chunks = text_chunks(planner, groups)

    assert len(chunks) > 32
    for parts in chunks:
        assert [part.candidates for part in parts] == [group.candidates for group in groups]
        assert len({part.text for part in parts}) == 1
        assert all(planner.plan(part, truncate_side="text").text_truncation is None for part in parts)
    assert list(dict.fromkeys(word for parts in chunks for word in parts[0].text.split())) == numbers


def test_a_text_that_fits_stays_whole():
    planner = build_planner(tiny_checkpoint("bert"), "joint", ModelSettings(max_window_tokens=40))
    request = ScoringRequest(words(20), ["wax"])

    assert text_chunks(planner, [request]) == [[request]]
    assert text_chunks(planner, [ScoringRequest(words(20), [])]) == [[ScoringRequest(words(20), [])]]


def test_labels_are_grouped_in_their_order():
    request = ScoringRequest("oil", ["a", "b", "c", "d", "e"])

    assert [group.candidates for group in label_groups(request, 2)] == [["a", "b"], ["c", "d"], ["e"]]
    assert label_groups(request, None) == label_groups(request, 5) == [request]
