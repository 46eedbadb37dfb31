"""A request of openvino's that failed, or that did nothing, leaves nothing behind for the next one."""

import subprocess
import sys
from functools import partial

import numpy as np
import pytest

from gliclass_rerank.errors import BackendError, OutOfMemoryError
from gliclass_rerank.runtime import openvino_core
from gliclass_rerank.runtime.openvino_cache import compiled_model
from gliclass_rerank.runtime.openvino_session import OpenVinoSession

WIDTH = 8


@pytest.fixture
def session(tmp_path):
    """Two products with a softmax between them, of any number of rows."""
    pytest.importorskip("openvino")
    onnx = pytest.importorskip("onnx")
    weights = np.random.default_rng(3).standard_normal((WIDTH, WIDTH)).astype(np.float32)
    nodes = [
        onnx.helper.make_node("MatMul", ["x", "w"], ["a"]),
        onnx.helper.make_node("Softmax", ["a"], ["b"], axis=-1),
        onnx.helper.make_node("MatMul", ["b", "w"], ["y"]),
    ]
    infos = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["rows", WIDTH]) for name in "xy"]
    graph = onnx.helper.make_graph(nodes, "g", infos[:1], infos[1:], [onnx.numpy_helper.from_array(weights, "w")])
    opsets = [onnx.helper.make_opsetid("", 20)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10), tmp_path / "g.onnx")
    return OpenVinoSession(tmp_path / "g.onnx", partial(compiled_model, tmp_path / "g.onnx", "f32", threads=2))


def rows(count):
    return {"x": np.random.default_rng(count).standard_normal((count, WIDTH)).astype(np.float32)}


def test_after_a_failure_the_model_is_another_one(session):
    (expected,) = session.run(rows(5))
    model = session._opened.get()

    with pytest.raises(BackendError, match="openvino failed: "):
        session.run({"x": np.zeros((3, WIDTH + 1), dtype=np.float32)})

    assert session._opened.get() is not model
    np.testing.assert_array_equal(session.run(rows(5))[0], expected)


def test_outputs_that_were_not_computed_are_refused(session, monkeypatch):
    """What openvino does where memory does not suffice (`tests/attack/starved_process.py`), without a limit."""
    session.run(rows(5))
    model = session._opened.get()
    request = type(model.create_infer_request())
    with monkeypatch.context() as patched:
        patched.setattr(request, "infer", lambda *_, **__: None)
        with pytest.raises(OutOfMemoryError, match="openvino gave no outputs"):
            session.run(rows(5))
    assert session._opened.get() is not model


def test_a_process_that_was_forked_from_one_with_openvino_is_told(session, monkeypatch):
    monkeypatch.setattr(openvino_core, "_used_in", [-1])
    with pytest.raises(BackendError, match="load it after the fork"):
        session.run(rows(5))


def test_a_signal_after_a_model_was_freed_does_not_kill_the_process(session, tmp_path):
    code = (
        "import gc, pathlib, signal, sys, time\n"
        "from gliclass_rerank.runtime.sessions import open_session\n"
        "path = pathlib.Path(sys.argv[1])\n"
        "opened = open_session(path, 'openvino', 'float32', threads=1)\n"
        "opened._opened.get()\n"
        "del opened\n"
        "gc.collect()\n"
        "signal.signal(signal.SIGINT, lambda *_: print('caught'))\n"
        "signal.raise_signal(signal.SIGINT)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "g.onnx")], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout) == (0, "caught\n"), done.stderr
