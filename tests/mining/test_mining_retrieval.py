import numpy as np
import pytest

from gliclass_rerank.errors import ConfigError
from gliclass_rerank.learn.data.dense import DenseRetriever
from gliclass_rerank.learn.data.retrieval import Bm25Retriever, interleaved
from gliclass_rerank.text_models.interfaces import Embedded, unit_length

TEXTS = [
    "The chain squeals when it is dry.",
    "Patching a tube takes five minutes.",
    "Waxed chains stay clean; a chain that is oiled does not.",
    "Saddles go up and down.",
]


class LetterEncoder:
    """Counts letters; remembers what it was asked."""

    def __init__(self):
        self.asked = []

    def encode(self, texts, role):
        self.asked.append((role, len(texts)))
        counts = [[text.lower().count(letter) for letter in "abcdefghij"] for text in texts]
        return Embedded(unit_length(np.array(counts, dtype=np.float32).reshape(len(texts), 10)), 0)


def test_bm25_stems_words_and_returns_only_what_shares_one():
    rankings = Bm25Retriever(TEXTS).retrieve(["patched tubes", "oiling the chains"], 4)
    assert rankings == [[1], [2, 0]]


@pytest.mark.parametrize("query", ["the", "zebra", "", "?!"])
def test_bm25_finds_nothing_for_a_query_without_known_words(query):
    assert Bm25Retriever(TEXTS).retrieve([query, "saddle"], 4) == [[], [3]]


def test_bm25_breaks_ties_by_position_and_keeps_to_the_depth():
    retriever = Bm25Retriever(["rust one", "other", "rust two", "rust three"])
    assert retriever.retrieve(["rust"], 3) == [[0, 2, 3]]
    assert len(retriever.retrieve(["rust"], 2)[0]) == 2
    assert retriever.retrieve([], 3) == []


@pytest.mark.parametrize("language", ["da", "de", "en", "es", "fr", "it", "nl", "no", "pt", "ru", "sv", "tr"])
def test_bm25_speaks_the_languages_it_names(language):
    assert Bm25Retriever(["alpha beta", "gamma delta"], language=language).retrieve(["gamma"], 2) == [[1]]


def test_bm25_refuses_another_language():
    with pytest.raises(ConfigError, match=r"`language` must be one of da, de, .*, got 'xx'"):
        Bm25Retriever(TEXTS, language="xx")


def test_rankings_are_merged_by_turns():
    assert interleaved([[1, 2, 3], [3, 4]], 9) == [1, 3, 2, 4]
    assert interleaved([[1, 2, 3], [3, 4]], 3) == [1, 3, 2]
    assert interleaved([[], [7]], 3) == [7]


def test_dense_retrieval_orders_by_cosine(tmp_path):
    encoder = LetterEncoder()
    retriever = DenseRetriever(["aab", "b", "cc", "ab"], encoder, cache=tmp_path / "cache")
    found = retriever.retrieve(["a", "c"], 3)
    assert (found[0][:2], found[1][:1]) == ([0, 3], [2])  # the others are as far away as each other
    assert [len(set(places)) for places in found] == [3, 3]
    assert retriever.similarities("b", [1, 2]) == pytest.approx([1.0, 0.0])
    assert encoder.asked[0] == ("passage", 4)
    assert encoder.asked[1] == ("query", 2)


def test_dense_retrieval_encodes_each_passage_once_over_several_runs(tmp_path, monkeypatch):
    monkeypatch.setattr("gliclass_rerank.learn.data.dense._SHARD_PASSAGES", 3)
    texts = [letter * 2 for letter in "abcdefg"]
    first, second = LetterEncoder(), LetterEncoder()
    DenseRetriever(texts, first, cache=tmp_path / "cache")
    assert first.asked == [("passage", 3), ("passage", 3), ("passage", 1)]
    (tmp_path / "cache" / "3.npy").unlink()
    assert DenseRetriever(texts, second, cache=tmp_path / "cache").retrieve(["f"], 1) == [[5]]
    assert second.asked == [("passage", 3), ("query", 1)]
