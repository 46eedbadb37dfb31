"""Packed passes on a real GPU; each test is skipped where there is none.

pytest -m gpu
"""

import random

import pytest
import torch

from gliclass_rerank import Reranker
from gliclass_rerank.model.backbones.packed_attention import flash_kernel, has_flash_kernel
from gliclass_rerank.model.backbones.packed_reference import plain_kernel

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available() or torch.cuda.get_device_capability() < (8, 0) or not has_flash_kernel(),
        reason="needs a CUDA device of capability 8.0 and torch 2.11",
    ),
]

QUERIES = ["how do I oil a chain?", "what makes a plant grow?", "why is the sky blue? " * 20]
# bfloat16 has 8 bits.
TOLERANCE = 0.05


def lists():
    rng = random.Random(7)
    words = "chain oil plant light leaf sky blue water brake wheel grow sun air the of in and".split()  # noqa: SIM905
    return [[" ".join(rng.choices(words, k=rng.randint(1, 90))) for _ in range(count)] for count in (20, 7, 33)]


def logits(ranking):
    return [hit.logit for hit in sorted(ranking, key=lambda hit: hit.index)]


@pytest.fixture(scope="module")
def on_gpu():
    reranker = Reranker(device="cuda")
    assert (reranker.runtime.attention, reranker.dtype) == ("varlen", "bfloat16")
    return reranker


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("reach", [None, 5])
def test_the_flash_kernel_is_the_plain_one(dtype, reach):
    generator = torch.Generator().manual_seed(0)
    bounds, key_bounds = (
        torch.tensor([0, 3, 20, 148], dtype=torch.int32),
        torch.tensor([0, 9, 40, 200], dtype=torch.int32),
    )
    query = torch.randn(148, 3, 32, generator=generator).to(dtype)
    key, value = (torch.randn(200, 3, 32, generator=generator).to(dtype) for _ in range(2))

    states, sums = flash_kernel()(
        query.cuda(), key.cuda(), value.cuda(), bounds.cuda(), key_bounds.cuda(), 128, 160, reach
    )

    expected, expected_sums = plain_kernel(
        query.float(), key.float(), value.float(), bounds, key_bounds, 128, 160, reach
    )
    assert sums.shape == expected_sums.shape
    assert torch.allclose(states.cpu().float(), expected, atol=2e-2)
    assert torch.allclose(sums.cpu(), expected_sums, atol=2e-2)


def test_a_packed_call_ranks_as_the_cpu_in_float32(on_gpu, bundled):
    found, expected = (reranker.rank_many(QUERIES, lists()) for reranker in (on_gpu, bundled))

    for one, other in zip(found, expected, strict=True):
        assert logits(one) == pytest.approx(logits(other), abs=TOLERANCE * 10)


@pytest.mark.parametrize("plan", ["shared_query", "joint"])
@pytest.mark.parametrize("backbone", ["bert", "modernbert", "deberta-v2"])
def test_every_backbone_and_plan_ranks_as_on_the_cpu(tiny_folders, backbone, plan, passages):
    expected = logits(Reranker(tiny_folders[backbone], device="cpu", plan=plan).rank("chain slip when wet", passages))

    in_full = Reranker(tiny_folders[backbone], device="cuda", dtype="float32", plan=plan)

    assert logits(in_full.rank("chain slip when wet", passages)) == pytest.approx(expected, abs=1e-3)
    halved = Reranker(tiny_folders[backbone], device="cuda", plan=plan)
    assert (halved.runtime.attention == "padded") is (backbone == "deberta-v2")
    # Enlarged random weights amplify bfloat16's bits; a wrong mask is off by several units.
    assert logits(halved.rank("chain slip when wet", passages)) == pytest.approx(expected, abs=1.0)


def test_the_callers_order_changes_no_bit(on_gpu):
    passages = lists()[0]
    shuffled = random.Random(1).sample(passages, k=len(passages))

    forwards, backwards = (logits(on_gpu.rank(QUERIES[0], order)) for order in (passages, shuffled))

    assert dict(zip(passages, forwards, strict=True)) == dict(zip(shuffled, backwards, strict=True))


def test_nothing_waits_for_the_device_before_the_result(tiny_folders, monkeypatch):
    reranker = Reranker(tiny_folders["bert"], device="cuda", plan="shared_query")
    reranker.rank("chain", ["oil", "wax"])
    network = reranker._pipeline._executor.network
    launch = network.launch

    def strict(requests):
        torch.cuda.set_sync_debug_mode("error")
        try:
            return launch(requests)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(network, "launch", strict)

    assert len(reranker.rank_many(["chain", "oil"], [["wax", "rust on rim"], ["loose spoke"]])) == 2


def test_a_pass_that_does_not_fit_is_halved_and_scores_stay(tiny_folders):
    reranker = Reranker(tiny_folders["bert"], device="cuda", plan="shared_query")
    passages = [f"oil the chain {number} " * 20 for number in range(2000)]
    expected = logits(reranker.rank("chain", passages))
    torch.cuda.empty_cache()
    used, total = torch.cuda.memory_reserved(), torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, (used + 48 * 2**20) / total))
    try:
        found = logits(reranker.rank("chain", passages))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)

    assert found == pytest.approx(expected, abs=0.1)
