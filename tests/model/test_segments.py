import torch

from gliclass_rerank.model.batch import Collator
from gliclass_rerank.model.segments import window_segments
from gliclass_rerank.types import Blocks

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


def block_segment(query_ids):
    collator = Collator(pad_id=0, label_pad_id=0, example_id=EXAMPLE, device=torch.device("cpu"))
    return collator.blocks(Blocks(query_ids, ((LABEL, 7),)), [[0]]).query_segment


def test_a_query_block_is_text():
    assert block_segment((1, 11, 12, 2)) == 1


def test_a_query_block_with_an_example_marker_is_2_throughout():
    assert block_segment((1, 11, EXAMPLE, 12, 2)) == 2
