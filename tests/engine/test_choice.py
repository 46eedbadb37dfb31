"""What `backend="auto"` takes, with the packages that are installed here and without them."""

import sys

import pytest
import torch
from tiny_checkpoints import encoder_values, tiny_config

from gliclass_rerank import Reranker, ZeroShotClassifier
from gliclass_rerank.errors import ConfigError, MissingDependencyError
from gliclass_rerank.runtime import choice, selection
from gliclass_rerank.runtime.choice import Choice, choose_backend
from gliclass_rerank.runtime.sessions import has_bfloat16

BI_ENCODER = {"architecture_type": "bi-encoder", "label_model_config": encoder_values("bert")}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(selection, "default_cache_folder", lambda: tmp_path / "cache")


@pytest.fixture
def quickest():
    for package in ("openvino", "onnx"):
        pytest.importorskip(package)
    return Choice("openvino", "bfloat16") if has_bfloat16() else Choice("torch")


@pytest.fixture
def without(monkeypatch):
    return lambda *packages: [monkeypatch.setitem(sys.modules, package, None) for package in packages]


@pytest.mark.parametrize("dtype", [None, "bfloat16", torch.float16])
@pytest.mark.parametrize("backend", [None, "torch", "onnx", "openvino"])
def test_what_is_named_is_taken_as_it_is(backend, dtype):
    assert choose_backend(tiny_config("bert"), backend, dtype=dtype) == Choice(backend or "torch", dtype)


def test_automatically_it_is_the_quickest_that_is_installed(quickest, backbone):
    assert choose_backend(tiny_config(backbone), "auto", device="cpu") == quickest


@pytest.mark.parametrize("package", ["openvino", "onnx"])
@pytest.mark.parametrize(("native", "dtype"), [(True, "bfloat16"), (False, None)])
def test_without_its_packages_torch_is_left(without, monkeypatch, package, native, dtype):
    without(package)
    monkeypatch.setattr(choice, "has_native_bfloat16", lambda: native)

    assert choose_backend(tiny_config("bert"), "auto", device="cpu") == Choice("torch", dtype)


@pytest.mark.parametrize("model_type", ["deberta-v2", "modernbert"])
def test_torch_keeps_float32_where_bfloat16_would_let_it_grow(without, monkeypatch, model_type):
    without("openvino")
    monkeypatch.setattr(choice, "has_native_bfloat16", lambda: True)

    assert choose_backend(tiny_config(model_type), "auto", device="cpu") == Choice("torch")


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
    found = choose_backend(tiny_config("bert", **config), "auto", **{"device": "cpu", **options})

    assert found == Choice("torch", options.get("dtype"))


def test_with_integers_it_is_a_backend_that_has_them(quickest, without):
    def found():
        return choose_backend(tiny_config("bert"), "auto", device="cpu", dtype="int8").backend

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

        assert (found.backend, found.dtype) == (quickest.backend, quickest.dtype or "float32")
    assert Reranker(tiny_folders["bert"], device="cpu", dtype=torch.bfloat16).dtype == "bfloat16"
    assert Reranker(tiny_folders["bert"], device="cpu").backend == "torch"


def test_a_cascade_takes_it_for_both(quickest):
    reranker = Reranker(device="cpu", backend="auto")

    assert (reranker.backend, reranker.settings["backend"]) == (quickest.backend, "auto")
    assert reranker.rank("oil", ["a chain", "oil for a chain"])[0].index == 1


def test_a_backend_that_there_is_not_is_refused():
    with pytest.raises(ConfigError, match="`backend` must be one of `auto`, `onnx`, `openvino`, `torch`, got 'tpu'"):
        choose_backend(tiny_config("bert"), "tpu")
