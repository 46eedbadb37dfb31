"""States are their own positions times ten, so that every expectation can be read off."""

import pytest
import torch
from tiny_checkpoints import tiny_config

from gliclass_rerank.model.pooling import block_candidates, block_tokens_read, marker_states, span_means

# Two windows of 7 tokens. First: markers at 1 and 3, separator at 5. Second: one marker at 2, separator at 4, 6 tokens.
STATES = 10.0 * torch.arange(7).expand(2, 7)[..., None] + torch.tensor([0.0, 1.0, 2.0])
TOKEN_MASK = torch.arange(7) < torch.tensor([7, 6])[:, None]
MARKERS = torch.tensor([[1, 3], [2, 0]])
MARKER_MASK = torch.tensor([[True, True], [True, False]])
TEXT_START = torch.tensor([5, 4])


def first_feature(vectors):
    return vectors[..., 0].tolist()


def spans(*, text_start, embed_marker):
    return first_feature(
        span_means(STATES, TOKEN_MASK, MARKERS, MARKER_MASK, text_start=text_start, embed_marker=embed_marker)
    )


def test_a_markers_own_state_is_read():
    vectors = marker_states(STATES, MARKERS, embed_marker=True)

    assert vectors.shape == (2, 2, 3)
    assert vectors[0].tolist() == [[10, 11, 12], [30, 31, 32]]
    assert vectors[1, 0].tolist() == [20, 21, 22]


def test_the_token_after_the_marker_is_read_without_embed_class_token():
    assert first_feature(marker_states(STATES, MARKERS, embed_marker=False))[0] == [20, 40]


def test_the_token_after_a_marker_at_the_end_is_the_marker_itself():
    assert first_feature(marker_states(STATES, torch.tensor([[6], [6]]), embed_marker=False)) == [[60], [60]]


def test_a_span_runs_from_its_marker_to_the_next_and_the_last_one_to_the_separator():
    # (10 + 20) / 2, (30 + 40) / 2; (20 + 30) / 2.
    assert spans(text_start=TEXT_START, embed_marker=True) == [[15, 35], [25, 0]]


def test_a_span_without_its_marker():
    assert spans(text_start=TEXT_START, embed_marker=False) == [[20, 40], [30, 0]]


def test_without_a_text_start_the_last_span_swallows_the_text_but_no_padding():
    # (30 + 40 + 50 + 60) / 4; (20 + 30 + 40 + 50) / 4.
    assert spans(text_start=None, embed_marker=True) == [[15, 45], [35, 0]]


def test_a_span_without_tokens_is_zero():
    means = span_means(
        STATES[:1],
        TOKEN_MASK[:1],
        torch.tensor([[1, 2]]),
        torch.tensor([[True, True]]),
        text_start=torch.tensor([3]),
        embed_marker=False,
    )

    assert means.tolist() == [[[0, 0, 0], [0, 0, 0]]]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"class_token_pooling": "first", "embed_class_token": True}, [0, 0]),
        ({"class_token_pooling": "first", "embed_class_token": False}, [10, 10]),
        ({"class_token_pooling": "average", "embed_class_token": True}, [30, 25]),
        ({"class_token_pooling": "average", "embed_class_token": False}, [35, 30]),
    ],
)
def test_a_block_is_read_at_its_marker_or_averaged_without_padding(changes, expected):
    config = tiny_config("bert", **changes)

    vectors = block_candidates(config, STATES, TOKEN_MASK)

    assert vectors.shape == (2, 3)
    assert first_feature(vectors) == expected


@pytest.mark.parametrize("embed", [True, False])
@pytest.mark.parametrize("pooling", ["first", "average"])
def test_the_tokens_said_to_be_read_from_a_block_suffice(pooling, embed):
    config = tiny_config("bert", class_token_pooling=pooling, embed_class_token=embed)
    count = block_tokens_read(config)

    cut = block_candidates(config, STATES[:, :count], TOKEN_MASK[:, :count])

    assert torch.equal(cut, block_candidates(config, STATES, TOKEN_MASK))


def test_a_head_that_fuses_layers_reads_every_token():
    assert block_tokens_read(tiny_config("bert", class_token_pooling="first", squeeze_layers=True)) is None
