"""Runtimes, and caches of their graphs."""

import pytest
from exported_networks import PACKAGES

from gliclass_rerank.runtime import export


@pytest.fixture(params=sorted(PACKAGES))
def runtime(request):
    pytest.importorskip(PACKAGES[request.param])
    return request.param


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cache") / "graphs"


@pytest.fixture(autouse=True)
def shared_cache(shared_folder, monkeypatch):
    """One for all tests, as a user has: both runtimes load the same export."""
    monkeypatch.setattr(export, "default_cache_folder", lambda: shared_folder)


@pytest.fixture
def cache(tmp_path, shared_cache, monkeypatch):
    """An empty one."""
    folder = tmp_path / "cache"
    monkeypatch.setattr(export, "default_cache_folder", lambda: folder)
    return folder
