"""Shared set-up: no test reaches the network (models come from the disk), and Haystack sends no telemetry."""

import os
import socket

import pytest

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "false"  # read when Haystack is imported
os.environ["HF_HUB_OFFLINE"] = "1"
pytest.register_assert_rewrite("gliclass_rerank.testing")

from gliclass_rerank.testing import only_torch  # noqa: E402, F401


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    def refused(self, address):
        raise RuntimeError(f"a test reached for the network: {address!r}")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket.socket, "connect_ex", refused)
