"""Sentences with scores: offsets into the caller's text, all kinds of checkpoints, and no cost unless asked for."""

import asyncio
import itertools
import random

import pytest

from gliclass_rerank import InputError, Reranker, Span
from gliclass_rerank.spans.sentences import sentences

QUERY = "chain slip"
LOGITS = {"oil wax .": 0.5, "rust .": -1.0, "pump tire .": 2.0, "oil wax . rust .": 1.0}


def split(text):
    return [text[start:end] for start, end in sentences(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \n\t ", []),
        ("one", ["one"]),
        ("  one. two!  three?\n", ["one.", "two!", "three?"]),
        ('He said "no." Then (yes!) he left.', ['He said "no."', "Then (yes!)", "he left."]),
        ("A wrapped\nline. Title\nNext\n\n* item", ["A wrapped\nline.", "Title", "Next", "* item"]),
        ("1. Press it.\n2. Wait.\nb. Go.", ["1. Press it.", "2. Wait.", "b. Go."]),
        ("Founded in 1842.[4] Won in 1887.[5][6] No.", ["Founded in 1842.[4]", "Won in 1887.[5][6]", "No."]),
        ("It closes at 5 p.m. Then we eat etc. and so on.", ["It closes at 5 p.m.", "Then we eat etc. and so on."]),
        ("क्या है। हाँ।", ["क्या है।", "हाँ।"]),
        ("version 1.2.3 of a.b.c", ["version 1.2.3 of a.b.c"]),
        ("你好。再见\uff01走吧", ["你好。", "再见\uff01", "走吧"]),
        ("Où est-il ? Là… Ici.", ["Où est-il ?", "Là…", "Ici."]),
    ],
)
def test_a_text_is_split_after_the_ends_of_sentences_and_lines(text, expected):
    assert split(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "Dr. Smith met Mr. J. R. Tolkien at 5 p.m. on Monday.",
        "See Fig. 3, e.g. the U.S. forces of approx. 300 men, i.e. few.",
        "It was built by St. John vs. Acme Inc. in ca. 1900.",
        "The U.S. Army read no. 5 and vol. 2.",
    ],
)
def test_an_abbreviation_ends_no_sentence(text):
    assert split(text) == [text]


def test_a_long_sentence_is_split_between_words_and_a_text_without_any_anywhere():
    words, solid = "word " * 1000, "x" * 2000

    assert all(len(piece) <= 600 and piece.split() == ["word"] * len(piece.split()) for piece in split(words))
    assert "".join(split(solid)) == solid
    assert max(map(len, split(solid))) <= 600


def test_sentences_cover_all_but_white_space_in_order_for_any_text():
    rng = random.Random(7)
    parts = [
        "a",
        "bc",
        ".",
        "!",
        " ",
        "\n",
        '"',
        ")",
        "。",
        "\u2028",
        "\x1f",
        "e.g. ",
        "é",
        "\U0001f600",
        "\ufffd",
        "1.",
    ]
    for _ in range(500):
        text = "".join(rng.choices(parts, k=40))
        extents = sentences(text)

        assert "".join("".join(split(text)).split()) == "".join(text.split())
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(extents))
        assert all(text[start:end] and text[start:end].strip() == text[start:end] for start, end in extents)


@pytest.mark.parametrize("part", ["a. ", "!", ") ", "\n", "e.g. "])
def test_a_hostile_text_is_split_too(part):
    """In time that grows with its length; with the square of it this would take minutes."""
    text = part * 100_000

    assert "".join("".join(split(text)).split()) == "".join(text.split())


def test_a_hit_has_its_sentences_best_first_at_their_places(scripted):
    reranker, _ = scripted(LOGITS)

    (hit,) = reranker.rank(QUERY, ["oil wax . rust . pump tire ."], spans=True)

    assert [(span.start, span.end) for span in hit.spans] == [(17, 28), (0, 9), (10, 16)]
    assert [span.score for span in hit.spans] == sorted((span.score for span in hit.spans), reverse=True)
    assert hit.to_dict()["spans"][0] == {"start": 17, "end": 28, "score": hit.spans[0].score}


def test_a_sentence_scores_as_a_passage_of_its_own(scripted):
    reranker, _ = scripted(LOGITS)
    alone = {hit.text: hit.score for hit in reranker.rank(QUERY, ["oil wax .", "rust ."])}

    (hit,) = reranker.rank(QUERY, ["oil wax . rust ."], spans=True)

    assert hit.spans == (Span(0, 9, alone["oil wax ."]), Span(10, 16, alone["rust ."]))


def test_without_spans_nothing_more_is_scored(scripted):
    reranker, network = scripted(LOGITS)

    ranking = reranker.rank(QUERY, ["oil wax . rust .", "rust ."])

    assert len(network.scored) == 2
    assert [hit.spans for hit in ranking] == [None, None]
    assert "spans" not in ranking[0].to_dict()


def test_equal_sentences_of_several_hits_are_scored_once_and_only_of_what_is_shown(scripted):
    reranker, network = scripted(LOGITS)

    ranking = reranker.rank(QUERY, ["oil wax . rust .", "rust . rust .", "pump tire . rust ."], spans=True, top_k=2)

    assert [hit.index for hit in ranking] == [0, 1]
    assert len(network.scored) == 3 + len({"oil wax .", "rust ."})
    assert all(len(hit.spans) == 2 for hit in ranking)


def test_spans_alone_are_those_of_a_ranking_in_the_order_of_the_passages(scripted):
    reranker, _ = scripted(LOGITS)
    passages = ["rust .", "", "oil wax . rust .", "pump tire ."]

    ranked = {hit.index: hit.spans for hit in reranker.rank(QUERY, passages, spans=True)}

    assert reranker.spans(QUERY, passages) == [ranked[index] for index in range(4)]
    assert ranked[1] == ()
    assert reranker.spans(QUERY, []) == []


def test_offsets_are_of_the_text_as_it_was_given(scripted):
    reranker, _ = scripted(LOGITS)
    given = "a\ud83d\ude00b . \udc00 pump tire . \ud83d \ud83d\ude00"

    for spans in (reranker.rank(QUERY, [given], spans=True)[0].spans, *reranker.spans(QUERY, [given])):
        found = sorted(given[span.start : span.end] for span in spans)
        assert found == sorted(["a\ud83d\ude00b .", "\udc00 pump tire .", "\ud83d \ud83d\ude00"])


@pytest.mark.parametrize("call", ["rank_many", "rank_iter", "arank", "arank_many"])
def test_every_way_to_rank_takes_spans(scripted, call):
    reranker, _ = scripted(LOGITS)
    passages = ["oil wax . rust ."]
    expected = reranker.rank(QUERY, passages, spans=True)[0].spans

    if call == "rank_iter":
        rankings = list(reranker.rank_iter([(QUERY, passages)], spans=True))
    elif call == "rank_many":
        rankings = reranker.rank_many([QUERY], [passages], spans=True)
    elif call == "arank":
        rankings = [asyncio.run(reranker.arank(QUERY, passages, spans=True))]
    else:
        rankings = asyncio.run(reranker.arank_many([QUERY], [passages], spans=True))

    assert rankings[0][0].spans == expected


@pytest.mark.parametrize("query", ["", "  ", 5, None])
def test_a_query_of_spans_must_be_a_text(scripted, query):
    reranker, _ = scripted(LOGITS)

    with pytest.raises(InputError, match="`query` must"):
        reranker.spans(query, ["oil ."])


def test_every_backbone_scores_sentences(tiny_folder):
    reranker = Reranker(tiny_folder, device="cpu")

    (hit,) = reranker.rank(QUERY, ["oil wax. rust pump"], spans=True)

    assert sorted((span.start, span.end) for span in hit.spans) == [(0, 8), (9, 18)]
    assert all(0 <= span.score <= 1 for span in hit.spans)


def test_the_bundled_model_finds_the_sentence(bundled):
    passage = (
        "Our help desk is open on weekdays. To reset your password, click 'Forgot password' on the sign-in page. "
        "Invoices are sent by mail."
    )

    (hit,) = bundled.rank("how do I reset my password?", [passage], spans=True)

    assert passage[hit.spans[0].start : hit.spans[0].end].startswith("To reset your password")
    assert hit.spans[0].score > 0.5 > hit.spans[1].score
