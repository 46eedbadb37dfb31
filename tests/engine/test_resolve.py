import pytest
import torch
from tiny_checkpoints import tiny_config

from gliclass_rerank.errors import ConfigError
from gliclass_rerank.runtime.resolve import has_native_bfloat16, resolve_runtime


def resolved(device=None, dtype=None, **options):
    return resolve_runtime(tiny_config("bert"), device=device, dtype=dtype, **{"backend": "torch", **options})


def placed(*arguments):
    runtime = resolved(*arguments)
    return runtime.device, runtime.torch_dtype, runtime.batch_tokens


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.fixture
def with_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_the_default_is_the_cpu_in_float32():
    assert placed() == (torch.device("cpu"), torch.float32, 2048)


@pytest.mark.usefixtures("with_cuda")
def test_with_cuda_the_default_is_cuda_in_bfloat16_and_a_large_budget():
    assert placed() == (torch.device("cuda"), torch.bfloat16, 65536)


@pytest.mark.usefixtures("with_cuda")
def test_a_cuda_device_without_bfloat16_gets_float32(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: False)

    assert resolved().torch_dtype == torch.float32


@pytest.mark.usefixtures("no_gpu")
def test_apples_gpu_comes_before_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)

    assert placed() == (torch.device("mps"), torch.float32, 65536)


@pytest.mark.usefixtures("with_cuda")
def test_a_given_device_wins_over_the_default():
    assert resolved("cpu").device == torch.device("cpu")
    assert resolved(torch.device("cuda", 1)).device == torch.device("cuda:1")


@pytest.mark.parametrize("dtype", ["float16", torch.float16])
def test_a_precision_may_be_a_name_or_torchs_own(dtype):
    assert resolved("cpu", dtype).torch_dtype == torch.float16


def test_an_unknown_precision_lists_the_known_ones():
    with pytest.raises(ConfigError) as caught:
        resolved("cpu", "int4")

    assert str(caught.value) == (
        "`dtype` must be one of `bfloat16`, `float16`, `float32`, or `int8` on onnx and openvino, got 'int4'"
    )


def test_integers_need_another_backend():
    with pytest.raises(ConfigError, match="`dtype` 'int8' needs the `backend` 'onnx' or 'openvino'"):
        resolved("cpu", "int8")


def test_exported_models_run_on_the_cpu_whatever_else_there_is():
    assert resolved(backend="onnx").device == torch.device("cpu")
    with pytest.raises(ConfigError, match="the backend 'onnx' runs on the CPU only, got `device` 'meta'"):
        resolved("meta", backend="onnx")


def test_an_unknown_device_is_refused_with_its_name():
    with pytest.raises(ConfigError) as caught:
        resolved("toaster")

    assert str(caught.value) == "`device` must be a torch device such as 'cpu' or 'cuda:0', got 'toaster'"


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(
    ("device", "name"), [("cuda", "CUDA device"), ("cuda:1", "CUDA device"), ("mps", "Apple GPU"), ("xpu", "Intel GPU")]
)
def test_a_gpu_that_is_not_there_is_refused(device, name):
    with pytest.raises(ConfigError) as caught:
        resolved(device)

    assert str(caught.value) == f"`device` is {device!r}, but torch finds no {name} here"


@pytest.mark.parametrize("batch_tokens", [0, -1])
def test_a_budget_below_one_token_is_refused(batch_tokens):
    with pytest.raises(ConfigError, match=f"`batch_tokens` must be at least 1, got {batch_tokens}"):
        resolved("cpu", batch_tokens=batch_tokens)


def test_a_given_budget_is_kept():
    assert resolved("cpu", batch_tokens=1).batch_tokens == 1


@pytest.mark.parametrize("threads", [0, -2])
def test_less_than_one_thread_is_refused(threads):
    with pytest.raises(ConfigError, match=f"`threads` must be at least 1, got {threads}"):
        resolved("cpu", threads=threads)


def test_threads_are_for_the_cpu():
    with pytest.raises(ConfigError, match="`threads` is for models on the CPU, got 2 for the `device` 'meta'"):
        resolved("meta", threads=2)
    assert resolved("cpu", threads=2).threads == 2


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"amx_bf16": True}, True),
        ({"amx_bf16": False, "avx512_bf16": True}, True),
        ({"avx512_f": True}, False),
        ({"bf16": True}, False),
    ],
)
def test_bfloat16_is_native_where_the_processor_says_so(monkeypatch, capabilities, expected):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)

    assert has_native_bfloat16() is expected


def test_an_old_torch_or_one_without_onednn_has_no_native_bfloat16(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True}, raising=False)
    with monkeypatch.context() as patched:
        patched.setattr(torch.backends.mkldnn, "is_available", lambda: False)
        assert not has_native_bfloat16()
    monkeypatch.delattr(torch.cpu, "get_capabilities")

    assert not has_native_bfloat16()
