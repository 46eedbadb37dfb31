"""Sessions of exported backends: threads, pickles, and what is refused."""

import os
import pickle
import threading
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from exported_networks import network
from tiny_checkpoints import encoder_values, tiny_checkpoint

from gliclass_rerank import Reranker
from gliclass_rerank.errors import ConfigError, MissingDependencyError
from gliclass_rerank.runtime.sessions import open_session


def test_threads_share_a_backend_and_none_sees_another_ones_numbers(runtime, tiny_folders, passages):
    reranker = Reranker(tiny_folders["bert"], backend=runtime)
    queries = ["chain slip", "oil", "rust on rim", "saddle"]
    expected = [reranker.rank(query, passages) for query in queries]
    found = {}

    def work(number):
        for _ in range(5):
            found[number] = reranker.rank(queries[number], passages)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(queries))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [found[number] for number in range(len(queries))] == expected


def test_a_session_has_the_threads_it_is_given(runtime, tiny_folders, cache):
    torch.set_num_threads(2)
    assert len(Reranker(tiny_folders["bert"], backend=runtime, threads=1).rank("oil", ["chain", "rust"])) == 2

    session = open_session(next(cache.rglob("query.onnx")), runtime, "float32", 1)

    if runtime == "onnx":
        assert session._opened.get().get_session_options().intra_op_num_threads == 1
    else:  # which never takes more than there are cores
        assert session._opened.get().get_property("INFERENCE_NUM_THREADS") == 1


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux")
@pytest.mark.parametrize("threads", [1, 2])
def test_no_thread_is_bound_to_a_core(runtime, tiny_folders, threads):
    """Each of several processes, such as a server's workers, would take the first ones."""
    reranker = Reranker(tiny_folders["bert"], backend=runtime, threads=threads)
    reranker.rank("oil", ["chain", "rust"])

    own = os.sched_getaffinity(0)
    for task in Path("/proc/self/task").iterdir():
        with suppress(ProcessLookupError):  # ended meanwhile
            assert os.sched_getaffinity(int(task.name)) == own


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ({"conv_kernel_size": 3}, "DeBERTa's convolution layer cannot be exported"),
        (
            {"hidden_act": "silu"},
            "only the activations `gelu`, `gelu_new`, `relu` can be exported, this backbone has 'silu'",
        ),
        (
            {"model_type": "roberta", "type_vocab_size": 1},
            "only backbones of the types `bert`, `deberta-v2`, `modernbert` can be exported so far, got 'roberta'",
        ),
    ],
)
def test_a_backbone_that_cannot_be_exported_is_refused(encoder, message):
    checkpoint = tiny_checkpoint("deberta-v2", encoder_config={**encoder_values("deberta-v2"), **encoder})

    with pytest.raises(ConfigError, match=f"the backend 'onnx' cannot run this checkpoint: {message}"):
        network(checkpoint.model, "onnx", "joint")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "tensorrt"}, "`backend` must be one of `auto`, `onnx`, `openvino`, `torch`, got 'tensorrt'"),
        ({"backend": "onnx", "dtype": "float16"}, "`dtype` must be one of `float32`, `int8` for the `backend` 'onnx'"),
        ({"backend": "torch", "dtype": "int8"}, "`dtype` 'int8' needs the `backend` 'onnx' or 'openvino'"),
        ({"backend": "openvino", "device": "meta"}, "the backend 'openvino' runs on the CPU only, got `device` 'meta'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(tiny_folders, options, message):
    with pytest.raises(ConfigError, match=message):
        Reranker(tiny_folders["bert"], **options)


def test_a_missing_runtime_names_its_extra(tiny_folders, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)

    with pytest.raises(MissingDependencyError, match=r"pip install 'gliclass-rerank\[openvino\]'"):
        Reranker(tiny_folders["bert"], backend="openvino")


def test_the_backend_is_among_the_settings_and_in_a_pickle(runtime, tiny_folders):
    reranker = Reranker(str(tiny_folders["bert"]), backend=runtime)

    copy = pickle.loads(pickle.dumps(reranker))

    assert copy.settings["backend"] == runtime
    assert copy.rank("oil", ["chain", "rust"]) == reranker.rank("oil", ["chain", "rust"])
