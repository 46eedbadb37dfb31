"""Shared fixtures: no test reaches the network, and models are loaded once."""

from __future__ import annotations

import itertools
import random
import signal
import socket
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from attack_ledger import attack, pytest_sessionfinish, pytest_terminal_summary, pytest_testnodedown  # noqa: F401
from tiny_checkpoints import BACKBONES, WORDS, tiny_tokenizer, write_tiny_checkpoint

import gliclass_rerank.runtime.export
from gliclass_rerank import Reranker, ZeroShotClassifier
from gliclass_rerank.prompt.tokenizer import TextTokenizer
from gliclass_rerank.testing import only_torch  # noqa: F401
from gliclass_rerank.types import Window

# A shell ignores Ctrl-C for what it starts in the background, and children inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

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
def _seeded():
    """Random weights do not depend on the tests that ran before."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _one_torch_thread():
    """Tiny models gain nothing from more, and on a busy machine threads wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
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


class ScriptedNetwork:
    """A network whose logits a test decides, by the text of each candidate; keeps what it was asked."""

    def __init__(self, logits: Mapping[str, float], pause_s: float = 0.0):
        ids = TextTokenizer(tiny_tokenizer()).encode(list(logits))
        self._logits = dict(zip(ids, logits.values(), strict=True))
        self._pause_s = pause_s
        self.scored: list[tuple[int, ...]] = []
        self.windows: list[Window] = []

    def window_logits(self, windows):
        self.windows += windows
        return self._answers([self._candidates(window) for window in windows])

    def block_logits(self, blocks, groups, cached, layer):
        return self._answers([[ids[1:-1] for ids in blocks.candidate_ids]])[0]

    def _answers(self, candidates):
        time.sleep(self._pause_s)
        self.scored += [ids for row in candidates for ids in row]
        return [[self._logits.get(ids, 0.0) for ids in row] for row in candidates]

    @staticmethod
    def _candidates(window: Window):
        borders = [*window.markers, window.text_start]
        return [window.token_ids[start + 1 : end] for start, end in itertools.pairwise(borders)]


@pytest.fixture
def scripted(monkeypatch, tiny_folders):
    """Build a `Reranker` or classifier on a tiny checkpoint whose forward pass is a table from text to logit."""

    def build(logits, *, kind=Reranker, checkpoint="bert", pause_s=0.0, **options):
        backend = ScriptedNetwork(logits, pause_s)
        monkeypatch.setattr(gliclass_rerank.runtime.export, "TorchNetwork", lambda model, runtime, runner: backend)
        return kind(tiny_folders[checkpoint], device="cpu", **options), backend

    return build
