"""Values that nobody expects: answered or refused with an error of ours, whose message is short."""

import numpy as np
import pytest
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.postprocessor.gliclass_rerank.examples import LlamaIndexExampleSource

from gliclass_rerank.errors import GLiClassRerankError

LONG = "".join(f"{number:05}-secret " for number in range(800))
QUERY = "how to stop a slipping chain"


class Raising:
    def __str__(self):
        raise RuntimeError(LONG)

    __repr__ = __iter__ = __len__ = __eq__ = __hash__ = __str__


def node(score=None, **metadata):
    found = NodeWithScore(node=TextNode(text="the chain slips", metadata=metadata))
    found.score = score
    return found


ODD = {
    "no nodes": lambda adapter: adapter().rerank(LONG, QUERY),
    "None": lambda adapter: adapter().rerank(None, QUERY),
    "raising list": lambda adapter: adapter().rerank(Raising(), QUERY),
    "a text among them": lambda adapter: adapter().rerank([node(), LONG], QUERY),
    "metadata that raise": lambda adapter: adapter().rerank([node(a=Raising())], QUERY),
    "score of text": lambda adapter: adapter().rerank([node(score=LONG)], QUERY),
    "score of an array": lambda adapter: adapter().rerank([node(score=np.ones(2))], QUERY),
    "query of bytes": lambda adapter: adapter().rerank([node()], LONG.encode()),
    "query of a list": lambda adapter: adapter().rerank([node()], [LONG]),
    "top_n": lambda adapter: adapter().rerank([node()], QUERY, top_n=LONG),
    "threshold": lambda adapter: adapter().rerank([node()], QUERY, score_threshold=Raising()),
    "index": lambda adapter: LlamaIndexExampleSource(LONG),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_values_are_refused_in_few_words(name, adapter):
    with pytest.raises(GLiClassRerankError) as caught:
        ODD[name](adapter)

    message = str(caught.value)
    assert not any(LONG[start : start + 81] in message for start in range(len(LONG) - 80))
    assert "\n" not in message


@pytest.mark.parametrize("text", ["<<LABEL>> a <<SEP>>", "a\0b", "\u202ea", "[SEP]", LONG])
def test_odd_texts_are_ranked(text, adapter):
    (one, _) = adapter().rerank([node(), NodeWithScore(node=TextNode(text=text))], QUERY)

    assert one.node.text == "the chain slips"
