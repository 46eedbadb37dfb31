"""Fixtures of the store's tests."""

from __future__ import annotations

import pytest
from rac_data import ENCODER

from gliclass_rerank.examples import ExampleStore


@pytest.fixture
def opened(tmp_path):
    """Open the store of this test; whatever is still open at its end is closed."""
    stores = []

    def open_store(encoder=ENCODER, *, path=tmp_path / "judged.db", backend="numpy", **options):
        store = ExampleStore(path, encoder, backend=backend, **options)
        stores.append(store)
        return store

    yield open_store
    for store in stores:
        store.close()


@pytest.fixture
def store():
    """An empty store in memory."""
    with ExampleStore(None, ENCODER, backend="numpy") as made:
        yield made


@pytest.fixture
def path(tmp_path):
    """Of the store of this test."""
    return tmp_path / "judged.db"


@pytest.fixture(params=["numpy", "faiss", "faiss_hnsw"])
def backend(request):
    if request.param != "numpy":
        pytest.importorskip("faiss")
    return request.param
