"""Split points of long passages."""

import itertools
import re

import pytest

from gliclass_rerank.prompt.chunks import chunk_spans


def tokens_of(text):
    """A token for each word and mark."""
    return [found.span() for found in re.finditer(r"\w+|[^\w\s]", text)]


def chunks_of(text, room):
    return [text[slice(*span)] for span in chunk_spans(text, tokens_of(text), room, overlap=room // 8)]


PROSE = " ".join(f"Sentence {number} has some {'more ' * (number % 5)}words." for number in range(40))


@pytest.mark.parametrize("room", [16, 30, 61, 200])
def test_chunks_end_with_sentences_and_hold_every_one_whole(room):
    chunks = chunks_of(PROSE, room)

    assert all(len(tokens_of(chunk)) <= room for chunk in chunks)
    assert all(chunk.endswith("words.") and chunk.startswith("Sentence") for chunk in chunks)
    for sentence in re.findall(r"Sentence .*?\.", PROSE):
        assert any(sentence in chunk for chunk in chunks)


def test_chunks_overlap_by_the_last_sentences_and_no_more_than_an_eighth():
    chunks = chunk_spans(PROSE, tokens_of(PROSE), 61, overlap=7)

    shared = [len(tokens_of(PROSE[start:end])) for (_, end), (start, _) in itertools.pairwise(chunks)]
    assert all(0 <= count <= 61 // 8 for count in shared)
    assert any(shared)


def test_chunks_are_of_similar_length():
    lengths = [len(tokens_of(chunk)) for chunk in chunks_of("word " * 260 + "end", 256)]

    assert len(lengths) == 2
    assert max(lengths) < 200


def test_without_sentences_a_chunk_ends_with_a_word():
    chunks = chunks_of(" ".join(f"w{number}" for number in range(100)), 16)

    assert all(re.fullmatch(r"w\d+( w\d+)*", chunk) for chunk in chunks)
    assert {word for chunk in chunks for word in chunk.split()} == {f"w{number}" for number in range(100)}


def test_a_text_without_spaces_is_split_between_tokens():
    text = "x" * 50
    spans = chunk_spans(text, [(place, place + 1) for place in range(50)], 16)

    assert {place for start, end in spans for place in range(start, end)} == set(range(50))
    assert all(end - start <= 16 for start, end in spans)


def test_lines_and_east_asian_stops_end_sentences():
    text = "\n".join(["一二三四五。六七八。"] * 10)
    spans = chunk_spans(text, [(place, place + 1) for place in range(len(text)) if text[place] != "\n"], 20)

    assert all(text[end - 1] == "。" for _, end in spans)


@pytest.mark.parametrize("text", [" " * 200_000, "." * 200_000, '."' * 100_000, "\n" * 200_000])
def test_odd_texts_take_no_longer_than_others(text):
    tokens = [(place, place + 1) for place in range(0, len(text), 50)]

    assert len(chunk_spans(text, tokens, 16, overlap=2, most=32)) == 32


def test_a_room_of_one_token_is_enough():
    assert chunks_of("a b c", 1) == ["a", "b", "c"]
