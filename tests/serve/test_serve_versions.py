"""Servers of models with versions: the new one takes over, and no request is dropped."""

import shutil
import threading
import time

import pytest
from running import running

from gliclass_rerank import Reranker
from gliclass_rerank.learn import rollback
from gliclass_rerank.learn.updating.versions import add_version, set_current
from gliclass_rerank.serve import versions
from gliclass_rerank.serve.models import ServedModel

BODY = {"query": "chain", "documents": ["oil the chain", "pump", "cold rim"]}


@pytest.fixture
def model(tmp_path, tiny_folders):
    folder = tmp_path / "model"
    folder.mkdir()
    for backbone in ("bert", "modernbert"):
        add_version(folder, lambda target, backbone=backbone: shutil.copytree(tiny_folders[backbone], target))
    set_current(folder, "0001")
    return folder


def scores(client):
    answer = client.post("/v1/rerank", BODY)
    assert answer.status == 200
    return {each["index"]: each["relevance_score"] for each in answer.body["results"]}


def test_a_server_changes_over_to_the_current_version_without_dropping_a_request(model, monkeypatch):
    monkeypatch.setattr(versions, "SECONDS_BETWEEN_LOOKS", 0.05)
    seen, stop = [], threading.Event()
    with running(ServedModel("mine", Reranker(model, device="cpu"))) as client:

        def ask():
            while not stop.is_set():
                seen.append(scores(client))

        before, asking = scores(client), threading.Thread(target=ask)
        asking.start()
        set_current(model, "0002")
        deadline = time.monotonic() + 120
        while (after := scores(client)) == before and time.monotonic() < deadline:
            time.sleep(0.02)
        stop.set()
        asking.join()
    expected = Reranker(model, device="cpu").rank(BODY["query"], BODY["documents"])
    assert after == pytest.approx({hit.index: hit.score for hit in expected}, abs=1e-5)
    assert all(each in (before, after) for each in seen)


def test_a_version_that_cannot_be_loaded_leaves_the_old_one(model, monkeypatch, caplog):
    monkeypatch.setattr(versions, "SECONDS_BETWEEN_LOOKS", 0.05)
    (model / "0002/model.safetensors").write_bytes(b"broken")
    with running(ServedModel("mine", Reranker(model, device="cpu"))) as client:
        before = scores(client)
        rollback(model, "0002")
        deadline = time.monotonic() + 60
        while "cannot be loaded" not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.02)

        assert scores(client) == before
    assert "version 0002 of mine cannot be loaded, the old one goes on" in caplog.text
