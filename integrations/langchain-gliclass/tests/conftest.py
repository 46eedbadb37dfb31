"""Shared fixtures; no test reaches the network (pytest-socket, see pyproject.toml), and the model is loaded once."""

from __future__ import annotations

import os

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["LANGSMITH_TRACING"] = "false"
pytest.register_assert_rewrite("gliclass_rerank.testing")

import torch  # noqa: E402
from langchain_core.documents import Document  # noqa: E402
from langchain_core.runnables import RunnableLambda  # noqa: E402
from langchain_gliclass import GLiClassRerank  # noqa: E402

from gliclass_rerank.testing import PASSAGES, RETRIEVAL_SCORES, only_torch, shared_reranker  # noqa: E402, F401


@pytest.fixture(autouse=True)
def _one_torch_thread():
    """On a busy machine torch's threads wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def ready():
    """Build a `GLiClassRerank` over the shared model."""
    return lambda **settings: GLiClassRerank(reranker=shared_reranker(), **settings)


@pytest.fixture
def found() -> list[Document]:
    """Five documents of the conformance suite: 2 is the most relevant, 4 is blank."""
    return [
        Document(page_content=text, id=f"doc-{index}", metadata={"bm25": score, "nested": {"tags": ["bicycle"]}})
        for index, (text, score) in enumerate(zip(PASSAGES[:5], RETRIEVAL_SCORES[:5], strict=True))
    ]


@pytest.fixture
def base(found) -> RunnableLambda:
    """A retriever that finds `found`, whatever it is asked."""
    return RunnableLambda(lambda query: found, name="base")
