import pytest
import torch
from tiny_checkpoints import BACKBONES, tiny_checkpoint

from gliclass_rerank.errors import OutOfMemoryError
from gliclass_rerank.runtime.placement import Placement
from gliclass_rerank.runtime.torch_backend import TorchBackend
from gliclass_rerank.types import Blocks, Window

PLACEMENT = Placement(torch.device("cpu"), torch.float32, 100)


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
    backend = TorchBackend(checkpoint.model, PLACEMENT)

    rows = backend.logits([window(checkpoint, count) for count in (2, 5, 1)])

    assert [len(row) for row in rows] == [2, 5, 1]
    assert all(isinstance(logit, float) for row in rows for logit in row)


def test_logits_of_blocks_come_in_candidate_order_whatever_the_groups(checkpoint):
    backend = TorchBackend(checkpoint.model, PLACEMENT)
    request = blocks(checkpoint, 3, 11, 5, 7)

    (together,) = backend.logits(request, [[0, 1, 2, 3]])
    (apart,) = backend.logits(request, [[1], [3, 0], [2]])

    # Padding takes another attention kernel; logits are of order 1.
    assert apart == pytest.approx(together, abs=1e-5)


def test_half_precision_is_for_the_backbone_and_the_head_stays_float32(checkpoint):
    model = tiny_checkpoint(checkpoint.config.shape.model_type).model

    backend = TorchBackend(model, Placement(torch.device("cpu"), torch.bfloat16, 100))

    assert {parameter.dtype for encoder in model.encoders for parameter in encoder.parameters()} == {torch.bfloat16}
    assert model.text_projector.linear_1.weight.dtype == torch.float32
    for rows in (backend.logits([window(checkpoint, 3)]), backend.logits(blocks(checkpoint, 3, 5), [[1, 0]])):
        assert all(torch.tensor(row).isfinite().all() for row in rows)


def test_half_precision_agrees_with_full_precision_roughly(checkpoint):
    model_type = checkpoint.config.shape.model_type
    half = TorchBackend(tiny_checkpoint(model_type).model, Placement(torch.device("cpu"), torch.bfloat16, 100))
    full = TorchBackend(checkpoint.model, PLACEMENT)

    for request, groups in ((blocks(checkpoint, 3, 5), [[1, 0]]), ([window(checkpoint, 3)], ())):
        (rough,), (exact,) = half.logits(request, groups), full.logits(request, groups)
        # Enlarged random weights amplify bfloat16's 8 bits over three layers; a wrong mask is off by several units.
        assert rough == pytest.approx(exact, abs=1.0)


def test_torch_running_out_of_memory_is_our_own_error(checkpoint, monkeypatch):
    backend = TorchBackend(checkpoint.model, PLACEMENT)

    def exhausted(batch):
        raise torch.OutOfMemoryError("CUDA out of memory.\nAnd a page of statistics.")

    monkeypatch.setattr(checkpoint.model, "forward", exhausted)

    with pytest.raises(OutOfMemoryError, match=r"^torch failed: CUDA out of memory\.$"):
        backend.logits([window(checkpoint, 2)])
    with pytest.raises(OutOfMemoryError, match=r"^torch failed: CUDA out of memory\.$"):
        backend.logits(blocks(checkpoint, 3), [[0]])


def test_no_forward_pass_keeps_a_graph(checkpoint):
    backend = TorchBackend(checkpoint.model, PLACEMENT)

    backend.logits([window(checkpoint, 2)])

    assert all(parameter.grad is None for parameter in checkpoint.model.parameters())
