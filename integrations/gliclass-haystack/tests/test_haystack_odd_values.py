"""Values that nobody expects: answered or refused with an error of ours, whose message is short."""

import numpy as np
import pytest
from haystack import Document
from haystack_integrations.components.rankers.gliclass import GLiClassRanker

from gliclass_rerank.errors import GLiClassRerankError
from gliclass_rerank.testing import shared_reranker

LONG = "".join(f"{number:05}-secret " for number in range(800))


class Raising:
    def __str__(self):
        raise RuntimeError(LONG)

    __repr__ = __iter__ = __len__ = __eq__ = __hash__ = __str__


def ranked(query="how to stop a slipping chain", documents=None, **limits):
    ranker = GLiClassRanker(reranker=shared_reranker(), meta_fields_to_embed=["title"])
    return ranker.run(query=query, documents=[Document(content="a")] if documents is None else documents, **limits)


def document(**fields):
    made = Document(content="a", meta={"title": "b"})
    for name, value in fields.items():
        object.__setattr__(made, name, value)  # Haystack warns of any other way
    return made


ODD = {
    "no documents": lambda: ranked(documents=LONG),
    "a number": lambda: ranked(documents=3),
    "raising list": lambda: ranked(documents=Raising()),
    "a text among them": lambda: ranked(documents=[LONG]),
    "meta that raises": lambda: ranked(documents=[document(meta={"title": Raising()})]),
    "no meta": lambda: ranked(documents=[document(meta=None)]),
    "content of bytes": lambda: ranked(documents=[document(content=LONG.encode())]),
    "content of numbers": lambda: ranked(documents=[document(content=3)]),
    "score of text": lambda: ranked(documents=[document(score=LONG)] * 2),
    "score of an array": lambda: ranked(documents=[document(score=np.ones(2))]),
    "an unhashable id": lambda: ranked(documents=[document(id=[LONG])]),
    "query": lambda: ranked(query=Raising()),
    "bytes of a query": lambda: ranked(query=LONG.encode()),
    "top_k": lambda: ranked(top_k=LONG),
    "threshold": lambda: ranked(score_threshold=Raising()),
    "separator": lambda: GLiClassRanker(embedding_separator=[LONG]),
    "fields": lambda: GLiClassRanker(meta_fields_to_embed=[LONG, 3]),
    "device": lambda: GLiClassRanker(device=LONG),
    "examples": lambda: GLiClassRanker(examples=LONG),
    "reranker": lambda: GLiClassRanker(reranker={LONG: 1}),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_values_are_refused_in_few_words(name):
    with pytest.raises(GLiClassRerankError) as caught:
        ODD[name]()

    message = str(caught.value)
    assert not any(LONG[start : start + 81] in message for start in range(len(LONG) - 80))
    assert "\n" not in message


@pytest.mark.parametrize("text", ["<<LABEL>> a <<SEP>>", "a\0b", "\u202ea", "[SEP]", LONG])
def test_odd_texts_are_ranked(text):
    documents = [Document(content="the chain slips", id="1"), document(content=text, id="2")]
    (one, _) = ranked(documents=documents)["documents"]

    assert one.id == "1"
