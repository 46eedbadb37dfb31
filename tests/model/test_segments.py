import torch

from gliclass_rerank.model.segments import candidate_segments, query_segments, window_segments

LABEL, SEP, EXAMPLE = 91, 92, 93
WINDOWS = torch.tensor(
    [
        [1, LABEL, 7, LABEL, 8, SEP, 11, 12, 2],
        [1, LABEL, 7, SEP, 11, 12, EXAMPLE, 13, 2],
        [1, 11, LABEL, 7, LABEL, 8, 9, SEP, 2],
    ]
)
TEXT_START = torch.tensor([5, 3, 7])


def test_candidates_are_0_and_the_text_from_the_separator_on_is_1():
    segments = window_segments(WINDOWS, TEXT_START, EXAMPLE)

    assert segments[0].tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1]
    assert segments[2].tolist() == [0, 0, 0, 0, 0, 0, 0, 1, 1]


def test_an_example_marker_turns_its_whole_window_into_2_as_upstream_does():
    assert window_segments(WINDOWS, TEXT_START, EXAMPLE)[1].tolist() == [2] * 9


def test_a_query_block_is_text():
    assert query_segments(torch.tensor([[1, 11, 12, 2]]), EXAMPLE).tolist() == [[1, 1, 1, 1]]


def test_a_query_block_with_an_example_marker_is_2_throughout():
    assert query_segments(torch.tensor([[1, 11, EXAMPLE, 12, 2]]), EXAMPLE).tolist() == [[2, 2, 2, 2, 2]]


def test_a_passage_block_is_0_whatever_it_holds():
    assert candidate_segments(torch.tensor([[LABEL, 7, SEP], [LABEL, EXAMPLE, 0]])).tolist() == [[0, 0, 0]] * 2
