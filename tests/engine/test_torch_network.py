import pytest
import torch
from tiny_checkpoints import BACKBONES, tiny_checkpoint

from gliclass_rerank.errors import BackendError, OutOfMemoryError
from gliclass_rerank.runtime.executor import TorchNetwork
from gliclass_rerank.runtime.resolve import resolve_runtime
from gliclass_rerank.types import Blocks, Window


def on_cpu(model, dtype="float32"):
    return TorchNetwork(model, resolve_runtime(model.config, backend="torch", device="cpu", dtype=dtype))


@pytest.fixture(scope="module", params=sorted(BACKBONES))
def checkpoint(request):
    return tiny_checkpoint(request.param)


def window(checkpoint, num_candidates):
    config = checkpoint.config
    candidates = [token for number in range(num_candidates) for token in (config.class_token_index, 7 + number)]
    ids = (2, *candidates, config.text_token_index, 11, 13, 3)
    return Window(ids, tuple(range(1, 1 + 2 * num_candidates, 2)), 1 + 2 * num_candidates)


def blocks(checkpoint, *lengths):
    label = checkpoint.config.class_token_index
    return Blocks((2, 11, 13, 3), tuple((label, *range(5, 5 + length), 3) for length in lengths))


def test_windows_give_one_logit_for_each_marker(checkpoint):
    backend = on_cpu(checkpoint.model)

    rows = backend.window_logits([window(checkpoint, count) for count in (2, 5, 1)])

    assert [len(row) for row in rows] == [2, 5, 1]
    assert all(isinstance(logit, float) for row in rows for logit in row)


def test_logits_of_blocks_come_in_candidate_order_whatever_the_groups(checkpoint):
    backend = on_cpu(checkpoint.model)
    request = blocks(checkpoint, 3, 11, 5, 7)

    together = backend.block_logits(request, [[0, 1, 2, 3]], {}, 0)
    apart = backend.block_logits(request, [[1], [3, 0], [2]], {}, 0)

    # Padding takes another attention kernel; logits are of order 1.
    assert apart == pytest.approx(together, abs=1e-5)


def test_half_precision_is_for_the_backbone_and_the_head_stays_float32(checkpoint):
    model = tiny_checkpoint(checkpoint.config.shape.model_type).model

    backend = on_cpu(model, "bfloat16")

    assert {parameter.dtype for encoder in model.encoders for parameter in encoder.parameters()} == {torch.bfloat16}
    assert model.text_projector.linear_1.weight.dtype == torch.float32
    (of_window,) = backend.window_logits([window(checkpoint, 3)])
    for row in (of_window, backend.block_logits(blocks(checkpoint, 3, 5), [[1, 0]], {}, 0)):
        assert torch.tensor(row).isfinite().all()


def test_half_precision_agrees_with_full_precision_roughly(checkpoint):
    model_type = checkpoint.config.shape.model_type
    half = on_cpu(tiny_checkpoint(model_type).model, "bfloat16")
    full = on_cpu(checkpoint.model)

    for logits in (
        lambda network: network.block_logits(blocks(checkpoint, 3, 5), [[1, 0]], {}, 0),
        lambda network: network.window_logits([window(checkpoint, 3)])[0],
    ):
        rough, exact = logits(half), logits(full)
        # Enlarged random weights amplify bfloat16's 8 bits over three layers; a wrong mask is off by several units.
        assert rough == pytest.approx(exact, abs=1.0)


def test_torch_running_out_of_memory_is_our_own_error(checkpoint, monkeypatch):
    backend = on_cpu(checkpoint.model)

    def exhausted(batch, **options):
        raise torch.OutOfMemoryError("CUDA out of memory.\nAnd a page of statistics.")

    for method in ("score_windows", "score_blocks"):
        monkeypatch.setattr(checkpoint.model, method, exhausted)

    with pytest.raises(OutOfMemoryError, match=r"^torch failed: CUDA out of memory\.$"):
        backend.window_logits([window(checkpoint, 2)])
    with pytest.raises(OutOfMemoryError, match=r"^torch failed: CUDA out of memory\.$"):
        backend.block_logits(blocks(checkpoint, 3), [[0]], {}, 0)


def test_so_is_a_cpus_and_any_other_failure_is_one_too(checkpoint, monkeypatch):
    backend = on_cpu(checkpoint.model)

    monkeypatch.setattr(checkpoint.model, "score_windows", lambda batch: torch.empty(2**60))
    with pytest.raises(OutOfMemoryError, match=r"^torch failed: .*allocate"):
        backend.window_logits([window(checkpoint, 2)])

    monkeypatch.setattr(checkpoint.model, "score_windows", lambda batch: torch.zeros(2, 3) @ torch.zeros(2, 3))
    with pytest.raises(BackendError, match=r"^torch failed: ") as found:
        backend.window_logits([window(checkpoint, 2)])
    assert not isinstance(found.value, OutOfMemoryError)


def test_no_forward_pass_keeps_a_graph(checkpoint):
    backend = on_cpu(checkpoint.model)

    backend.window_logits([window(checkpoint, 2)])

    assert all(parameter.grad is None for parameter in checkpoint.model.parameters())
