import pytest
from running import running

from gliclass_rerank import Reranker
from gliclass_rerank.serve.models import ServedModel


@pytest.fixture(scope="module")
def reranker(tiny_folders):
    return Reranker(tiny_folders["bert"], device="cpu")


@pytest.fixture(scope="module")
def server(reranker, tiny_folders, classifier):
    """A server with two tiny models and a classifier."""
    other = Reranker(tiny_folders["modernbert"], device="cpu")
    with running(ServedModel("tiny", reranker), ServedModel("other", other), classifier=classifier) as client:
        yield client
