"""Chunks of long texts and groups of labels."""

import pytest
from tiny_checkpoints import byte_level_tokenizer, metaspace_tokenizer, tiny_checkpoint, tiny_tokenizer, words

from gliclass_rerank.pipeline import build_planner
from gliclass_rerank.prompt.layout import ScoringRequest
from gliclass_rerank.prompt.parts import chunked, label_groups, split_text
from gliclass_rerank.prompt.tokenizer import TextTokenizer
from gliclass_rerank.settings import ModelSettings

TOKENIZERS = [tiny_tokenizer, byte_level_tokenizer, metaspace_tokenizer]
TEXTS = [
    words(97),
    "Oil the chain. Clean the hub! Is the rim loose? " * 9,
    "oil" * 60,
    "  wax\n\n" * 30,
    "\u6cb9\u3002" * 40,
    "\U0001f6b2 bike " * 20,
]


@pytest.mark.parametrize("build", TOKENIZERS)
@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("most", [1, 7, 30, 10_000])
def test_chunks_hold_the_whole_text_in_order(build, text, most):
    chunks = split_text(TextTokenizer(build()), text, most)

    assert "".join("".join(chunks).split()) == "".join(text.split())
    assert all(chunk.strip() for chunk in chunks)
    assert most < 10_000 or chunks == [text]


@pytest.mark.parametrize("build", [tiny_tokenizer, byte_level_tokenizer])
def test_chunks_are_of_at_most_so_many_tokens_and_of_similar_length(build):
    tokenizer = TextTokenizer(build())

    lengths = [len(tokenizer.encode_with_spans(chunk)[0]) for chunk in split_text(tokenizer, words(97), 30)]

    assert max(lengths) <= 31  # alone, a chunk may begin with a token for its space
    assert min(lengths) > 15


def test_chunks_end_with_a_sentence_or_a_word():
    tokenizer = TextTokenizer(tiny_tokenizer())

    sentences = split_text(tokenizer, "oil the chain. wax the hub. clean rim and tire.", 17)

    assert [chunk.strip()[-1] for chunk in sentences] == ["."] * len(sentences)
    assert len(sentences) > 1
    assert all(chunk.split()[-1] in {"squeal", "chain"} for chunk in split_text(tokenizer, "chain squeal " * 20, 7))


def test_a_text_without_tokens_is_one_chunk():
    assert split_text(TextTokenizer(tiny_tokenizer()), "", 5) == [""]
    assert split_text(TextTokenizer(tiny_tokenizer()), " \n ", 5) == [" \n "]


@pytest.mark.parametrize("plan", ["joint", "shared_query"])
@pytest.mark.parametrize("backbone", ["bert", "deberta-v2"])
def test_no_chunk_of_a_long_text_is_cut(backbone, plan):
    planner = build_planner(tiny_checkpoint(backbone), plan, ModelSettings(max_window_tokens=40))
    groups = [ScoringRequest(words(200), labels, prompt="oil ") for labels in (["wax"], ["rust", "hub rim tire"])]

    chunks = chunked(planner, groups)

    assert len(chunks) > 5
    for parts in chunks:
        assert [part.candidates for part in parts] == [group.candidates for group in groups]
        assert len({part.text for part in parts}) == 1
        assert all(planner.plan(part, truncate_side="text").text_truncation is None for part in parts)
    assert " ".join(parts[0].text.strip() for parts in chunks) == words(200)


def test_a_text_that_fits_stays_whole():
    planner = build_planner(tiny_checkpoint("bert"), "joint", ModelSettings(max_window_tokens=40))
    request = ScoringRequest(words(20), ["wax"])

    assert chunked(planner, [request]) == [[request]]
    assert chunked(planner, [ScoringRequest(words(20), [])]) == [[ScoringRequest(words(20), [])]]


def test_labels_are_grouped_in_their_order():
    request = ScoringRequest("oil", ["a", "b", "c", "d", "e"])

    assert [group.candidates for group in label_groups(request, 2)] == [["a", "b"], ["c", "d"], ["e"]]
    assert label_groups(request, None) == label_groups(request, 5) == [request]
