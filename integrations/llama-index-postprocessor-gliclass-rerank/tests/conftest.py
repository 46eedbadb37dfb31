"""Shared fixtures; no test reaches the network, and the model is loaded once."""

import os
import socket
from importlib.util import find_spec
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
# Up to 0.13.x the sentence splitter would download what it has brought along.
os.environ["NLTK_DATA"] = str(Path(find_spec("llama_index.core").origin).parent / "_static" / "nltk_cache")
pytest.register_assert_rewrite("gliclass_rerank.testing")

import torch  # noqa: E402 # this and the rest after the registration
from llama_index.core.schema import NodeWithScore, TextNode  # noqa: E402
from llama_index.postprocessor.gliclass_rerank import GLiClassRerank  # noqa: E402

from gliclass_rerank.testing import QUERY, only_torch, shared_reranker  # noqa: E402, F401

CHAIN = "A worn chain jumps over the teeth of the sprockets when you push hard on the pedals."
TYRES = "Tyres lose a little air every week; pump them before each long ride."
BREAD = "Bread dough rises faster in a warm kitchen."


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    def refused(self, address):
        raise ConnectionError(f"a test reached for the network: {address!r}")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket.socket, "connect_ex", refused)


@pytest.fixture(autouse=True)
def _one_torch_thread():
    """On a busy machine torch's threads wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def query() -> str:
    return QUERY


@pytest.fixture
def texts() -> list[str]:
    """The relevant one comes last."""
    return [TYRES, BREAD, CHAIN]


@pytest.fixture
def nodes(texts) -> list[NodeWithScore]:
    """One node a text, scored 3, 2 and 1 by the retriever."""
    return [
        NodeWithScore(node=TextNode(id_=f"node-{index}", text=text), score=float(len(texts) - index))
        for index, text in enumerate(texts)
    ]


@pytest.fixture
def adapter():
    """Build a postprocessor over one shared model."""

    def build(**settings) -> GLiClassRerank:
        return GLiClassRerank(reranker=shared_reranker(), **settings)

    return build


@pytest.fixture
def core_score(query):
    """What the core gives a text for the query."""
    return lambda text: shared_reranker().rank(query, [text])[0].score
