"""Graphs that were exported or compiled: made once, kept, and made again where damaged."""

import pytest
import torch
from exported_networks import TOLERANCE, network
from tiny_checkpoints import WORDS, tiny_checkpoint, write_tiny_checkpoint

from gliclass_rerank import Reranker
from gliclass_rerank.errors import BackendError
from gliclass_rerank.runtime import export, graph_cache, openvino_cache
from gliclass_rerank.runtime.sessions import open_session


def test_an_export_is_made_once_for_each_network_and_plan(runtime, tmp_path, cache, monkeypatch):
    first = write_tiny_checkpoint(tmp_path / "first", "bert")
    Reranker(first, backend=runtime)
    (entry,) = cache.iterdir()
    compiled = {"passage.blob", "query.blob"} if runtime == "openvino" else set()
    kept = [path.name.partition(".")[0] + path.suffix for path in entry.iterdir()]
    assert sorted(kept) == sorted({"entry.json", "passage.onnx", "query.onnx"} | compiled)

    with monkeypatch.context() as patched:
        patched.setattr(export, "GRAPHS", {})  # nothing could be exported now
        Reranker(first, backend=runtime)
        Reranker(write_tiny_checkpoint(tmp_path / "same", "bert"), backend=runtime)
        with pytest.raises(BackendError, match="the model could not be exported: 'window'"):
            Reranker(first, backend=runtime, plan="joint")
    assert [path.name for path in cache.iterdir()] == [entry.name]  # a failed export leaves nothing behind

    Reranker(first, backend=runtime, plan="joint")
    Reranker(write_tiny_checkpoint(tmp_path / "other", "bert", query_attention_start=1), backend=runtime)
    changed = tiny_checkpoint("bert").model
    with torch.no_grad():
        changed.encoder_model.encoder.layer[1].output.dense.bias[3] += 1
    network(changed, runtime, "shared_query")
    assert len(list(cache.iterdir())) == 4


def test_one_of_several_processes_that_export_at_once_wins(tmp_path):
    def build(folder):
        (folder / "graph.onnx").write_text("ours")
        # Another process finishes first.
        graph_cache.cached_graphs(tmp_path, "key", lambda other: (other / "graph.onnx").write_text("theirs"))

    entry = graph_cache.cached_graphs(tmp_path, "key", build).folder

    assert (entry / "graph.onnx").read_text() == "theirs"
    assert list(tmp_path.iterdir()) == [entry]


def test_a_graph_that_a_runtime_cannot_read_and_a_cache_that_cannot_be_written_are_said(
    runtime, tiny_folders, tmp_path, monkeypatch
):
    (tmp_path / "passage.onnx").write_bytes(b"not a graph")
    with pytest.raises(BackendError, match=r"could not load `.*passage\.onnx`"):
        open_session(tmp_path / "passage.onnx", runtime, "float32", 1)

    (tmp_path / "file").touch()
    monkeypatch.setattr(export, "default_cache_folder", lambda: tmp_path / "file")
    with pytest.raises(BackendError, match=r"the exported model could not be kept in `.*file`"):
        Reranker(tiny_folders["bert"], backend=runtime)


def test_what_openvino_compiled_is_read_by_the_next_process_and_changes_nothing(tiny_folders, cache, monkeypatch):
    openvino = pytest.importorskip("openvino")

    def logits(threads=1):
        ranking = Reranker(tiny_folders["bert"], backend="openvino", threads=threads).rank("oil chain", WORDS)
        return {hit.index: hit.logit for hit in ranking}

    compiled = logits()
    assert sorted(path.name.partition(".")[0] for path in cache.rglob("*.blob")) == ["passage", "query"]

    monkeypatch.setattr(openvino.Core, "compile_model", pytest.fail)
    assert logits() == compiled
    assert logits(threads=2) == pytest.approx(compiled, abs=TOLERANCE)  # threads are the reader's own


@pytest.mark.parametrize(
    "damage", [lambda whole: whole[: len(whole) // 2], lambda whole: b"no model", lambda whole: b""]
)
def test_a_damaged_compiled_graph_is_made_again(tiny_folders, cache, damage):
    pytest.importorskip("openvino")
    Reranker(tiny_folders["bert"], backend="openvino")
    whole = {path: path.read_bytes() for path in cache.rglob("*.blob")}
    for path, content in whole.items():
        path.write_bytes(damage(content))

    assert len(Reranker(tiny_folders["bert"], backend="openvino").rank("oil chain", WORDS)) == len(WORDS)

    # A compiled graph holds times and addresses: it is never the same twice.
    for path, content in whole.items():
        assert path.read_bytes() != damage(content)
        assert path.stat().st_size == pytest.approx(len(content), rel=0.01)


def test_a_cache_that_cannot_be_written_to_costs_the_compiled_graphs_only(tiny_folders, cache, monkeypatch):
    pytest.importorskip("openvino")

    def full(path):
        raise OSError("disk full")

    monkeypatch.setattr(openvino_cache, "atomic_file", full)
    assert len(Reranker(tiny_folders["bert"], backend="openvino").rank("oil chain", WORDS)) == len(WORDS)
    assert not list(cache.rglob("*.blob"))
