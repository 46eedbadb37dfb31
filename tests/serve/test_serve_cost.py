"""Cost of a request: all chunks of a long passage, each text encoded once."""

import asyncio

import pytest
from tiny_checkpoints import WORDS

from gliclass_rerank import Reranker
from gliclass_rerank.prompt.chunks import tokens_read
from gliclass_rerank.serve.core import RequestError, RerankRequest
from gliclass_rerank.serve.engine import Engine
from gliclass_rerank.serve.metrics import Metrics
from gliclass_rerank.serve.models import Models, ServedModel
from gliclass_rerank.serve.settings import ServeSettings


class CountedText(str):
    """A text that counts how often it is encoded."""

    encodings = 0

    def encode(self, *args):
        type(self).encodings += 1
        return super().encode(*args)


def engine_of(reranker, **settings):
    return Engine(ServeSettings(**settings), Models([ServedModel("tiny", reranker)]), Metrics())


def long_text(num_words):
    return " ".join((WORDS * (1 + num_words // len(WORDS)))[:num_words])


@pytest.mark.parametrize("num_words", [3, 150, 300, 1000, 5000])
def test_the_cost_of_a_passage_is_what_the_model_reads_of_it(reranker, num_words):
    passage = long_text(num_words)
    request = RerankRequest("chain", (passage,))

    cost, read = ServedModel("tiny", reranker).cost(request), reranker.rank("chain", [passage]).num_tokens

    # A word has one token and some five bytes; an estimate needs no more.
    assert read / 1.5 - 3 <= cost <= 1.6 * read + 3


def test_where_long_passages_are_cut_they_cost_a_window(tiny_folders):
    reranker = Reranker(tiny_folders["bert"], device="cpu", long_passages="cut")
    served = ServedModel("tiny", reranker, long_passages="cut")

    assert served.cost(RerankRequest("chain", (long_text(5000),))) <= 2 * reranker.max_window_tokens


def test_the_chunks_of_a_passage_are_bounded():
    assert tokens_read(100, 126) == 100
    assert 1000 <= tokens_read(1000, 256) <= 1300
    assert tokens_read(10**9, 256) == tokens_read(10**6, 256) == 64 * 128


def test_each_text_is_encoded_once_for_limits_cost_and_cache(reranker):
    CountedText.encodings = 0
    request = RerankRequest(CountedText("chain"), (CountedText("oil"), CountedText("wax")))

    asyncio.run(engine_of(reranker).rank(request))

    assert CountedText.encodings == 3


def test_the_query_counts_towards_the_tokens_of_a_request(reranker):
    engine = engine_of(reranker, max_request_tokens=50)
    with pytest.raises(RequestError, match="requests of at most 50 tokens are accepted, got about"):
        asyncio.run(engine.rank(RerankRequest(long_text(60), ("oil",))))
