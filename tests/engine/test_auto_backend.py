"""The default `backend="auto"`, with the packages that are installed here and without them."""

import logging
import sys

import pytest
import torch
from tiny_checkpoints import encoder_values, tiny_config, write_tiny_checkpoint

from gliclass_rerank import Reranker, ZeroShotClassifier
from gliclass_rerank.cascade import CascadeConfig, save_cascade
from gliclass_rerank.errors import BackendError, ConfigError, MissingDependencyError
from gliclass_rerank.runtime import export, resolve
from gliclass_rerank.runtime.openvino_core import has_bfloat16
from gliclass_rerank.runtime.resolve import has_native_bfloat16, resolve_runtime

# As they are, before the shared fixture hides them.
REAL = {"_installed": resolve._installed, "has_native_bfloat16": has_native_bfloat16}
BI_ENCODER = {"architecture_type": "bi-encoder", "label_model_config": encoder_values("bert")}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "default_cache_folder", lambda: tmp_path / "cache")
    for name, real in REAL.items():
        monkeypatch.setattr(resolve, name, real)


@pytest.fixture(params=[True, False], ids=["native int8", "no native int8"])
def native_int8(request, monkeypatch):
    monkeypatch.setattr(resolve, "has_native_int8", lambda: request.param)
    return request.param


@pytest.fixture
def quickest():
    for package in ("openvino", "onnx"):
        pytest.importorskip(package)
    return ("openvino", "bfloat16") if has_bfloat16() else ("torch", "bfloat16" if has_native_bfloat16() else "float32")


@pytest.fixture
def without(monkeypatch):
    return lambda *packages: [monkeypatch.setitem(sys.modules, package, None) for package in packages]


def chosen(config, backend="auto", **options):
    runtime = resolve_runtime(config, backend=backend, **{"device": "cpu", **options})
    return runtime.backend, runtime.dtype


@pytest.mark.parametrize(
    ("backend", "dtype", "expected"),
    [
        ("torch", None, ("torch", "float32")),
        ("torch", torch.float16, ("torch", "float16")),
        ("onnx", None, ("onnx", "float32")),
        ("onnx", "int8", ("onnx", "int8")),
        ("openvino", "bfloat16", ("openvino", "bfloat16")),
    ],
)
def test_what_is_named_is_taken_as_it_is(backend, dtype, expected):
    assert chosen(tiny_config("bert"), backend, dtype=dtype) == expected


def test_the_reason_can_be_read():
    assert resolve_runtime(tiny_config("bert"), backend="torch").reason == "as asked for"
    refused = resolve_runtime(tiny_config("bert", **BI_ENCODER), backend="auto", device="cpu").reason
    assert refused == "only uni-encoders can be exported so far, got 'bi-encoder'"


def test_automatically_it_is_the_quickest_that_is_installed(quickest, backbone):
    if quickest[0] == "torch" and backbone != "bert":
        quickest = ("torch", "float32")
    assert chosen(tiny_config(backbone)) == quickest


def test_none_is_auto(quickest):
    assert chosen(tiny_config("bert"), None) == chosen(tiny_config("bert"), "auto") == quickest


@pytest.mark.parametrize(("loss", "is_taken"), [(None, False), (0.0, True), (0.003, True), (0.0031, False)])
def test_int8_is_taken_where_its_loss_was_measured_and_the_processor_has_it(quickest, native_int8, loss, is_taken):
    found = chosen(tiny_config("bert"), int8_ndcg_loss=loss)

    assert found == (("openvino", "int8") if is_taken and native_int8 else quickest)


def test_int8_runs_on_onnxruntime_without_openvino(quickest, without, monkeypatch):
    monkeypatch.setattr(resolve, "has_native_int8", lambda: True)
    without("openvino")

    runtime = resolve_runtime(tiny_config("bert"), backend=None, device="cpu", int8_ndcg_loss=0.0)

    assert (runtime.backend, runtime.dtype) == ("onnx", "int8")
    assert runtime.quicker == "pip install 'gliclass-rerank[openvino]'"


def test_where_memory_has_a_limit_openvino_is_not_taken(quickest, monkeypatch):
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (2**40, resource.RLIM_INFINITY))
    monkeypatch.setattr(resolve, "has_native_int8", lambda: True)

    runtime = resolve_runtime(tiny_config("bert"), backend=None, device="cpu", int8_ndcg_loss=0.0)

    assert (runtime.backend, runtime.dtype, runtime.quicker) == ("onnx", "int8", None)
    assert chosen(tiny_config("bert"), "openvino", dtype="float32") == ("openvino", "float32")


def test_what_is_not_quicker_is_not_advertised(without, monkeypatch):
    without("openvino", "onnxruntime")
    monkeypatch.setattr(resolve, "has_native_bfloat16", lambda: False)

    assert resolve_runtime(tiny_config("bert"), backend=None, device="cpu", int8_ndcg_loss=0.5).quicker is None


def test_one_line_of_the_log_says_what_was_taken(tiny_folders, without, monkeypatch, caplog):
    without("openvino", "onnxruntime")
    monkeypatch.setattr(resolve, "has_native_bfloat16", lambda: True)
    with caplog.at_level(logging.INFO, "gliclass_rerank"):
        reranker = Reranker(tiny_folders["bert"], device="cpu")

    assert caplog.messages == [
        f"<Reranker {tiny_folders['bert']}: plan='shared_query', backend='torch', dtype='bfloat16', device='cpu'>: "
        "the quickest of those installed; quicker here: pip install 'gliclass-rerank[openvino]'"
    ]
    assert caplog.messages[0].startswith(f"{reranker!r}: ")


def test_the_first_export_says_so_once(quickest, tiny_folders, caplog, tmp_path):
    settings = {"device": "cpu", "backend": "openvino", "dtype": "float32"}
    with caplog.at_level(logging.INFO, "gliclass_rerank.runtime"):
        for _ in range(2):
            Reranker(tiny_folders["bert"], **settings)

    assert caplog.messages == [f"exporting 3 layers for openvino float32, once, to {tmp_path / 'cache'}"]


def test_what_was_chosen_automatically_and_cannot_run_is_replaced_by_torch(tiny_folders, monkeypatch, caplog):
    def full_disk(*_, **__):
        raise BackendError("the exported model could not be kept")

    monkeypatch.setattr(resolve, "_installed", lambda _: True)
    monkeypatch.setattr(resolve, "has_bfloat16", lambda: True)
    monkeypatch.setattr(export, "_exported_layers", full_disk)

    reranker = Reranker(tiny_folders["bert"], device="cpu")

    assert (reranker.backend, reranker.dtype) == ("torch", "float32")
    assert reranker.runtime.reason == "the exported model could not be kept"
    assert len(reranker.rank("oil", ["wax", "rim"])) == 2
    assert "on torch, in float32: the exported model could not be kept" in caplog.text
    with pytest.raises(BackendError, match="could not be kept"):
        Reranker(tiny_folders["bert"], device="cpu", backend="openvino", dtype="bfloat16")


@pytest.mark.parametrize("package", ["openvino", "onnx"])
@pytest.mark.parametrize(("native", "dtype"), [(True, "bfloat16"), (False, "float32")])
def test_without_its_packages_torch_is_left(without, monkeypatch, package, native, dtype):
    without(package)
    monkeypatch.setattr(resolve, "has_native_bfloat16", lambda: native)

    assert chosen(tiny_config("bert")) == ("torch", dtype)


@pytest.mark.parametrize("model_type", ["deberta-v2", "modernbert"])
def test_torch_keeps_float32_where_bfloat16_would_let_it_grow(without, monkeypatch, model_type):
    without("openvino")
    monkeypatch.setattr(resolve, "has_native_bfloat16", lambda: True)

    assert chosen(tiny_config(model_type)) == ("torch", "float32")


@pytest.mark.parametrize(
    ("config", "options"),
    [
        (BI_ENCODER, {}),
        ({"encoder_config": {**encoder_values("bert"), "model_type": "roberta"}}, {}),
        ({}, {"device": "meta"}),
        ({}, {"dtype": "float16"}),
        ({}, {"dtype": torch.float32}),
    ],
)
def test_what_only_torch_can_run_it_gets(config, options):
    dtype = str(options.get("dtype", "float32")).removeprefix("torch.")

    assert chosen(tiny_config("bert", **config), **options) == ("torch", dtype)


def test_with_integers_it_is_a_backend_that_has_them(quickest, without):
    def found():
        return chosen(tiny_config("bert"), dtype="int8")[0]

    assert found() == "openvino"
    without("openvino")
    assert found() == "onnx"


def test_integers_without_a_backend_that_has_them_name_what_to_install(without, tiny_folders):
    without("openvino", "onnxruntime")

    with pytest.raises(MissingDependencyError, match=r"pip install 'gliclass-rerank\[openvino\]'"):
        Reranker(tiny_folders["bert"], backend="auto", device="cpu", dtype="int8")


def test_what_was_taken_can_be_read(quickest, tiny_folders):
    for made in (Reranker, ZeroShotClassifier):
        found = made(tiny_folders["bert"], device="cpu", backend="auto")

        assert (found.backend, found.dtype) == quickest
    assert Reranker(tiny_folders["bert"], device="cpu", dtype=torch.bfloat16).dtype == "bfloat16"
    assert Reranker(tiny_folders["bert"], device="cpu", backend="torch").backend == "torch"


def test_a_cascade_takes_it_for_both(quickest, tiny_folders, tmp_path):
    second = write_tiny_checkpoint(tmp_path / "second", "bert", query_attention_start=1)
    parts = {"first": tiny_folders["bert"], "second": second}
    save_cascade(CascadeConfig(first="first", second="second"), tmp_path / "both", parts)

    reranker = Reranker(tmp_path / "both", device="cpu", backend="auto")

    assert (reranker.backend, reranker.settings["backend"]) == (quickest[0], "auto")
    assert len(reranker.rank("oil", ["chain", "oil for chain"])) == 2


def test_a_backend_that_there_is_not_is_refused():
    with pytest.raises(ConfigError, match="`backend` must be one of `auto`, `onnx`, `openvino`, `torch`, got 'tpu'"):
        chosen(tiny_config("bert"), "tpu")
