from types import SimpleNamespace

import pytest
import torch
from tiny_checkpoints import tiny_config

from gliclass_rerank.errors import ConfigError
from gliclass_rerank.model.backbones.packed_reference import plain_kernel
from gliclass_rerank.model.config import ModelConfig
from gliclass_rerank.runtime.attention import batch_tokens_of, flash_failure
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
    pytest.importorskip("torch.nn.attention.varlen", reason="an old torch has no packed attention")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=80 * 2**30))
    monkeypatch.setattr("gliclass_rerank.runtime.attention.flash_failure", lambda *_: None)


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_the_default_is_the_cpu_in_float32():
    assert placed() == (torch.device("cpu"), torch.float32, 2048)


@pytest.mark.usefixtures("with_cuda")
def test_with_cuda_the_default_is_cuda_in_bfloat16_and_a_large_budget():
    assert placed() == (torch.device("cuda"), torch.bfloat16, 262144)


@pytest.mark.usefixtures("with_cuda")
@pytest.mark.parametrize(
    ("capability", "dtype"),
    [
        ((6, 1), torch.float32),
        ((7, 0), torch.float16),
        ((7, 5), torch.float16),
        ((8, 0), torch.bfloat16),
        ((9, 0), torch.bfloat16),
        ((12, 0), torch.bfloat16),
    ],
)
def test_a_cuda_device_gets_the_half_precision_that_it_computes_without_emulation(monkeypatch, capability, dtype):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: capability)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)  # emulated

    assert resolved().torch_dtype == dtype


@pytest.mark.usefixtures("with_cuda")
@pytest.mark.parametrize(
    ("capability", "attention", "reason"),
    [
        ((7, 5), "padded", "flash attention needs compute capability 8.0, and this card has 7.5"),
        ((8, 0), "varlen", "flash attention runs sequences of different lengths without padding"),
        ((9, 0), "varlen", "flash attention runs sequences of different lengths without padding"),
    ],
)
def test_sequences_run_packed_where_flash_attention_does(monkeypatch, capability, attention, reason):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: capability)

    runtime = resolved()

    assert (runtime.attention, runtime.attention_reason) == (attention, reason)


@pytest.mark.usefixtures("with_cuda")
@pytest.mark.parametrize(
    ("backbone", "options", "reason"),
    [
        ("bert", {"dtype": "float32"}, "flash attention has no float32"),
        ("bert", {"has_cache": True}, "a passage cache holds the states of padded rows"),
        ("deberta-v2", {}, "DeBERTa adds distances to its attention scores, which flash attention does not"),
        ("bert", {"device": "cpu"}, "flash attention needs an NVIDIA card"),
        ("bert", {"backend": "onnx"}, "the backend 'onnx' runs padded rows"),
    ],
)
def test_padded_rows_have_a_reason(backbone, options, reason):
    # The head of the tiny DeBERTa reads all layers.
    config = tiny_config(backbone, **({"squeeze_layers": False} if backbone == "deberta-v2" else {}))

    runtime = resolve_runtime(config, **{"backend": "torch", **options})

    assert (runtime.attention, runtime.attention_reason) == ("padded", reason)


@pytest.mark.usefixtures("with_cuda")
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"squeeze_layers": True}, "the head reads all layers, which a packed pass does not keep"),
        (
            {"query_key_bias": True, "attention_plan": "shared_query"},
            "flash attention has no bias on the query's keys in layers with a window",
        ),
        (
            {"encoder_config": {"num_attention_heads": 2}},
            "flash attention needs heads of a multiple of 8 up to 256, got 12",
        ),
    ],
)
def test_networks_that_flash_attention_cannot_run_say_so(changes, reason):
    values = tiny_config("modernbert").to_dict()
    values["encoder_config"] = {**values["encoder_config"], **changes.get("encoder_config", {})}

    config = ModelConfig.from_dict(
        {**values, **{key: each for key, each in changes.items() if key != "encoder_config"}}
    )

    assert resolve_runtime(config, backend="torch").attention_reason == reason


@pytest.mark.usefixtures("with_cuda")
def test_a_kernel_that_is_wrong_or_fails_leaves_padded_rows_with_the_reason(monkeypatch):
    def wrong(query, *_):
        return query, query.new_zeros(query.shape[1::-1]).float()

    monkeypatch.setattr("gliclass_rerank.runtime.attention.flash_failure", flash_failure)
    for kernel, reason in (
        (plain_kernel, None),
        (wrong, "flash attention differs from plain attention on this device"),
        (lambda *_: 1 / 0, "flash attention failed on this device: division by zero"),
    ):
        flash_failure.cache_clear()
        monkeypatch.setattr("gliclass_rerank.runtime.attention.flash_kernel", lambda kernel=kernel: kernel)
        assert flash_failure(torch.device("cpu"), "bfloat16") == reason
    flash_failure.cache_clear()

    assert resolved().attention == "padded"  # there is no such device here
    assert resolved().attention_reason.startswith("flash attention failed on this device: ")
    flash_failure.cache_clear()


@pytest.mark.usefixtures("with_cuda")
@pytest.mark.parametrize(("gib", "width", "budget"), [(8, 384, 87381), (80, 384, 262144), (80, 1024, 262144)])
def test_the_budget_of_packed_sequences_follows_the_memory(monkeypatch, gib, width, budget):
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=gib * 2**30))

    assert batch_tokens_of("varlen", width, torch.device("cuda")) == budget


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


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"device": "meta", "dtype": "bfloat16"}, True),
        ({"device": "cpu"}, True),
        ({"device": "cpu", "dtype": "bfloat16"}, False),
        ({"backend": "onnx"}, False),
    ],
)
def test_padding_is_computed_by_torch_except_where_batches_are_filled_up(options, expected):
    assert resolve_runtime(tiny_config("bert"), **{"backend": "torch", **options}).computes_padding is expected


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
