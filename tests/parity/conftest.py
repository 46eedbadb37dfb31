"""The public `gliclass` package is the reference here; its warnings are its own affair."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers.utils import logging
from upstream import build_biencoder, build_pair

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    for item in items:
        if _HERE in item.path.parents:
            for module in ("gliclass", "transformers"):
                item.add_marker(pytest.mark.filterwarnings(rf"ignore:::{module}\."))


@pytest.fixture(scope="session", autouse=True)
def _quiet_transformers():
    logging.set_verbosity_error()
    logging.disable_progress_bar()


@pytest.fixture
def pair(tmp_path):
    """Build an upstream model and our classifier on its saved folder; see `build_pair`."""
    return lambda *args, **options: build_pair(tmp_path / "checkpoint", *args, **options)


@pytest.fixture
def biencoder(tmp_path):
    """The same for bi-encoders; see `build_biencoder`."""
    return lambda *args, **options: build_biencoder(tmp_path / "checkpoint", *args, **options)
