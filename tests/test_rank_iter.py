from itertools import count, islice

import pytest

from gliclass_rerank import InputError, Reranker

PASSAGES = [f"oil the chain {number} times" for number in range(5)]


@pytest.fixture(scope="module")
def reranker(tiny_folders):
    return Reranker(tiny_folders["bert"], device="cpu", batch_tokens=16)


def test_rankings_come_in_the_order_of_the_queries_and_are_those_of_rank_many(reranker):
    queries = [f"chain {number}" for number in range(9)]
    lists = [PASSAGES[number % 3 :] for number in range(9)]

    found = list(reranker.rank_iter(zip(queries, lists, strict=True), top_k=2))

    assert found == reranker.rank_many(queries, lists, top_k=2)


def test_queries_are_read_when_their_turn_comes(reranker):
    read = []
    endless = (read.append(number) or (f"chain {number}", PASSAGES) for number in count())

    assert len(list(islice(reranker.rank_iter(endless), 3))) == 3
    assert len(read) < 10


def test_no_queries_give_no_rankings(reranker):
    assert list(reranker.rank_iter([])) == []


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("chain", "each of `pairs` must be a tuple of a query and its passages, got 'chain'"),
        (("chain", "oil", "wax"), "each of `pairs` must be a tuple of a query and its passages, got"),
        (("chain", 7), "got 7"),
        ((7, PASSAGES), "got 7"),
        (("chain", [7]), "got 7"),
        ((" ", PASSAGES), "`query` must not be blank"),
    ],
)
def test_a_bad_pair_is_one_sentence_and_earlier_rankings_are_out(reranker, bad, message):
    found = reranker.rank_iter([("chain", PASSAGES * 3)] * 3 + [bad])

    assert len(next(found)) == 15
    with pytest.raises(InputError, match=message):
        list(found)


@pytest.mark.parametrize("pairs", [7, None, "chain"])
def test_what_is_no_iterable_of_pairs_is_refused(reranker, pairs):
    with pytest.raises(InputError, match="`pairs` must be an iterable of queries, each with its passages, got"):
        list(reranker.rank_iter(pairs))


def test_candidates_of_all_queries_are_encoded_at_once_and_equal_ones_once(tiny_folders, monkeypatch):
    reranker = Reranker(tiny_folders["bert"], device="cpu")
    pipeline, encoded = reranker._pipeline, []
    encode = pipeline._encode
    monkeypatch.setattr(pipeline, "_encode", lambda texts: encoded.append(texts) or encode(texts))

    reranker.rank_many(["chain", "oil", "wax"], [PASSAGES, PASSAGES[::-1], [*PASSAGES[:2], "rust"]])

    assert encoded == [[*PASSAGES, "rust"]]
