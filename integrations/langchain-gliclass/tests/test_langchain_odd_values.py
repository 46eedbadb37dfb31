"""Values that nobody expects: answered or refused with an error of ours, whose message is short."""

import numpy as np
import pytest
from langchain_core.documents import Document
from langchain_gliclass.examples import LangChainExampleSource

from gliclass_rerank.errors import GLiClassRerankError

LONG = "".join(f"{number:05}-secret " for number in range(800))
QUERY = "how to stop a slipping chain"


class Raising:
    def __str__(self):
        raise RuntimeError(LONG)

    __repr__ = __iter__ = __len__ = __eq__ = __hash__ = __str__


def document(**metadata):
    return Document(page_content="the chain slips", metadata=metadata)


ODD = {
    "no documents": lambda ready: ready().rerank(LONG, QUERY),
    "None": lambda ready: ready().rerank(None, QUERY),
    "raising list": lambda ready: ready().rerank(Raising(), QUERY),
    "a text among them": lambda ready: ready().rerank([document(), LONG], QUERY),
    "metadata that raise": lambda ready: ready(metadata_keys=["a"]).rerank([document(a=Raising())], QUERY),
    "score of text": lambda ready: ready(retrieval_score_key="a").rerank([document(a=LONG)], QUERY),
    "score of an array": lambda ready: ready(retrieval_score_key="a").rerank([document(a=np.ones(2))], QUERY),
    "query of bytes": lambda ready: ready().rerank([document()], LONG.encode()),
    "query of a list": lambda ready: ready().rerank([document()], [LONG]),
    "top_n": lambda ready: ready().rerank([document()], QUERY, top_n=LONG),
    "threshold": lambda ready: ready().rerank([document()], QUERY, score_threshold=Raising()),
    "vector store": lambda ready: LangChainExampleSource(LONG),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_values_are_refused_in_few_words(name, ready):
    with pytest.raises(GLiClassRerankError) as caught:
        ODD[name](ready)

    message = str(caught.value)
    assert not any(LONG[start : start + 81] in message for start in range(len(LONG) - 80))
    assert "\n" not in message


@pytest.mark.parametrize("text", ["<<LABEL>> a <<SEP>>", "a\0b", "\u202ea", "[SEP]", LONG])
def test_odd_texts_are_ranked(text, ready):
    (one, _) = ready().rerank([document(), Document(page_content=text)], QUERY)

    assert one.page_content == "the chain slips"
