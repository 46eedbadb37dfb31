"""Shared fixtures: no test reaches the network, and models are loaded once."""

from __future__ import annotations

import random
import socket
from pathlib import Path

import pytest
import torch
from tiny_checkpoints import BACKBONES, WORDS, write_tiny_checkpoint

import gliclass_rerank.scoring
from gliclass_rerank import Reranker, ZeroShotClassifier
from gliclass_rerank.types import Blocks

_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    for name in ("connect", "connect_ex"):
        original = getattr(socket.socket, name)

        def guarded(self, address, original=original):
            if isinstance(address, tuple) and address[0] not in _LOCAL:
                raise RuntimeError(f"a test reached for the network: {address!r}")
            return original(self, address)

        monkeypatch.setattr(socket.socket, name, guarded)


@pytest.fixture(autouse=True)
def _same_torch_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=sorted(BACKBONES))
def backbone(request) -> str:
    return request.param


@pytest.fixture(scope="session")
def tiny_folders(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("tiny")
    return {name: write_tiny_checkpoint(folder / name, name) for name in BACKBONES}


@pytest.fixture
def tiny_folder(tiny_folders, backbone) -> Path:
    return tiny_folders[backbone]


@pytest.fixture(scope="session")
def bundled() -> Reranker:
    return Reranker(device="cpu")


@pytest.fixture(scope="session")
def classifier(tiny_folders) -> ZeroShotClassifier:
    return ZeroShotClassifier(tiny_folders["deberta-v2"], device="cpu")


@pytest.fixture(scope="session")
def passages() -> list[str]:
    """29 distinct passages of 0 to 97 tokens, short and long ones mixed."""
    rng = random.Random(5)
    lengths = [0, 1, 97, 2, 3, 41, *(rng.randint(4, 31) for _ in range(23))]
    return [" ".join(rng.choices(WORDS, k=length)) for length in lengths]


class ScriptedBackend:
    """A backend whose logits a test decides: `logit(candidate_ids)` for every block; keeps what it was asked."""

    def __init__(self, logit):
        self._logit = logit
        self.batches = []

    def logits(self, batch, groups=()):
        assert isinstance(batch, Blocks), "the bundled model reads blocks"
        self.batches.append(batch)
        assert sorted(index for group in groups for index in group) == list(range(len(batch.candidate_ids)))
        return [[self._logit(ids) for ids in batch.candidate_ids]]


@pytest.fixture
def scripted(monkeypatch, tiny_folders):
    """Build a `Reranker` on the tiny BERT whose forward pass is a function from a passage's token ids to its logit."""

    def build(logit) -> tuple[Reranker, ScriptedBackend]:
        backend = ScriptedBackend(logit)
        monkeypatch.setattr(gliclass_rerank.scoring, "TorchBackend", lambda model, placement: backend)
        return Reranker(tiny_folders["bert"], device="cpu"), backend

    return build
