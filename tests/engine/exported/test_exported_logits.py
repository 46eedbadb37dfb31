"""Logits of exported backends against torch's, on the same weights and the same batches."""

import numpy as np
import pytest
import torch
from exported_networks import (
    HEADS,
    PACKAGES,
    TOLERANCE,
    CacheOfLayer,
    blocks,
    both,
    first_of,
    head_values,
    network,
    window,
)
from grids import thinned
from huggingface_hub.errors import StrictDataclassError
from tiny_checkpoints import BACKBONES, WORDS, encoder_values, tiny_checkpoint, write_tiny_checkpoint
from transformers import AutoConfig

from gliclass_rerank import Example, Reranker, ZeroShotClassifier
from gliclass_rerank.checkpoint.location import DEFAULT_MODEL
from gliclass_rerank.errors import ConfigError
from gliclass_rerank.runtime import exported
from gliclass_rerank.runtime.executor import BlockExecutor
from gliclass_rerank.runtime.openvino_core import has_bfloat16
from gliclass_rerank.runtime.sessions import open_session


@pytest.mark.parametrize(("head", "backbone", "runtime"), thinned(HEADS, BACKBONES, PACKAGES), indirect=["runtime"])
def test_blocks_have_the_logits_of_torch(runtime, backbone, head):
    checkpoint = tiny_checkpoint(backbone, **head_values(head, backbone))
    torch_backend, exported = both(checkpoint, runtime, "shared_query")
    request = blocks(checkpoint, 3, 11, 5, 0, 7)

    for groups in ([[1, 4, 2, 0, 3]], [[1], [4, 2], [0], [3]]):
        assert exported.block_logits(request, groups, {}, 0) == pytest.approx(
            torch_backend.block_logits(request, groups, {}, 0), abs=TOLERANCE
        )


@pytest.mark.parametrize(
    ("head", "backbone", "runtime"),
    thinned(["first token", "every layer", "an inner layer"], BACKBONES, PACKAGES),
    indirect=["runtime"],
)
def test_windows_have_the_logits_of_torch(runtime, backbone, head):
    checkpoint = tiny_checkpoint(
        backbone, **head_values(head, backbone, attention_plan="joint", candidate_position_start=0)
    )
    torch_backend, exported = both(checkpoint, runtime, "joint")
    batch = [window(checkpoint, count) for count in (2, 5, 1, 17)]

    for row, expected in zip(exported.window_logits(batch), torch_backend.window_logits(batch), strict=True):
        assert row == pytest.approx(expected, abs=TOLERANCE)


@pytest.mark.parametrize("plan", ["shared_query", "joint"])
def test_linear_layers_compute_no_padding(runtime, monkeypatch, plan):
    checkpoint, computed = tiny_checkpoint("bert", attention_plan=plan), []

    def opened(*arguments):
        session = open_session(*arguments)
        run = session.run

        def watched(inputs):
            computed.append((inputs["states"].shape[1], inputs["padding"].shape))
            return run(inputs)

        monkeypatch.setattr(session, "run", watched)
        return session

    monkeypatch.setattr(exported, "open_session", opened)
    backend = network(checkpoint.model, runtime, plan)

    if plan == "joint":
        requests = [window(checkpoint, number) for number in (1, 9)]
        backend.window_logits(requests)
        expected = [(sum(len(each.token_ids) for each in requests), (2, 1, 1, len(requests[1].token_ids)))]
    else:
        request = blocks(checkpoint, 4, 19)
        backend.block_logits(request, [[1, 0]], {}, 0)
        expected = [(len(request.query_ids), (1, 1, 1, 5)), (6 + 21, (2, 1, 1, 21))]
    if runtime == "openvino":
        expected = [(32, shape) for _, shape in expected]
    assert computed == expected


# Head, first layer that sees the query, layer of the cache
KNOWN = [
    ("averaged tokens", 2, 1),
    ("first token", 2, 2),
    ("never sees the query", 3, 3),
    ("token after the marker", 3, 1),
]


@pytest.mark.parametrize(("known", "backbone", "runtime"), thinned(KNOWN, BACKBONES, PACKAGES), indirect=["runtime"])
def test_known_passages_have_the_logits_of_torch(runtime, backbone, known):
    head, start, layer = known
    checkpoint = tiny_checkpoint(
        backbone, **head_values(head, backbone, query_attention_start=start, squeeze_layers=False)
    )
    in_torch, exported_layers = (
        network(checkpoint.model, name, "shared_query", passage_cache=CacheOfLayer(layer))
        for name in ("torch", runtime)
    )
    request = blocks(checkpoint, 4, 9, 30)
    known = in_torch.candidate_states([request.candidate_ids[index] for index in (1, 0)], layer).astype(np.float16)

    found = exported_layers.block_logits(request, [[1, 0], [2]], {0: known}, layer)

    expected = in_torch.block_logits(request, [[1, 0], [2]], {0: known}, layer)
    assert found == pytest.approx(expected, abs=TOLERANCE)
    wrong = {0: known[::-1].copy()}
    assert exported_layers.block_logits(request, [[1, 0], [2]], wrong, layer) != pytest.approx(found, abs=TOLERANCE)


def test_the_query_key_bias_moves_the_logits(runtime):
    """So that the agreement above would not hold without it."""
    logits = []
    for biased in (False, True):
        checkpoint = tiny_checkpoint("bert", query_key_bias=True)
        with torch.no_grad():
            checkpoint.model.query_key_bias.mul_(biased)
        (_, exported) = both(checkpoint, runtime, "shared_query")
        logits.append(exported.block_logits(blocks(checkpoint, 3, 11), [[1, 0]], {}, 0))

    assert logits[0] != pytest.approx(logits[1], abs=10 * TOLERANCE)


@pytest.mark.parametrize(("backbone", "runtime"), thinned(BACKBONES, PACKAGES), indirect=["runtime"])
def test_order_companions_and_batch_change_no_logit(runtime, backbone, tmp_path, passages):
    folder = write_tiny_checkpoint(tmp_path / "tiny", backbone, **head_values("averaged tokens", backbone))
    small, large = (Reranker(folder, backend=runtime, batch_tokens=tokens) for tokens in (64, 4096))
    examples = [Example("brake squeal", ("clean rim",), ("oil chain",))]

    def logits(reranker, texts):
        return {
            texts[hit.index]: hit.logit for hit in reranker.rank("chain slip when wet", texts, examples=examples).hits
        }

    expected = logits(large, passages)

    # Group shapes select other kernels.
    assert logits(small, passages) == pytest.approx(expected, abs=1e-5)
    assert logits(large, passages[::-1]) == pytest.approx(expected, abs=1e-5)
    assert {key: logits(large, [key])[key] for key in passages} == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("runtime", first_of("onnx", "openvino"), indirect=True)
def test_the_bundled_model_ranks_as_in_torch(runtime, bundled):
    exported = Reranker(backend=runtime)
    passages = ["Oil the chain.", "", "A chain slips when it is worn. " * 20, "The capital of Peru is Lima.", "Brakes"]

    expected = {hit.index: hit.logit for hit in bundled.rank("why does a chain slip?", passages)}

    assert {hit.index: hit.logit for hit in exported.rank("why does a chain slip?", passages)} == pytest.approx(
        expected, abs=TOLERANCE
    )


def test_a_classifier_scores_as_in_torch(runtime, tiny_folders):
    expected = ZeroShotClassifier(tiny_folders["bert"], device="cpu", plan="joint").logits("chain slip", WORDS[:5])

    found = ZeroShotClassifier(tiny_folders["bert"], plan="joint", backend=runtime).logits("chain slip", WORDS[:5])

    assert found == pytest.approx(expected, abs=TOLERANCE)


def test_bfloat16_is_openvinos_alone(tiny_folders):
    pytest.importorskip("onnxruntime")
    with pytest.raises(
        ConfigError, match="`dtype` must be one of `float32`, `int8` for the `backend` 'onnx', got 'bfloat16'"
    ):
        Reranker(tiny_folders["bert"], backend="onnx", dtype="bfloat16")


def test_bfloat16_agrees_roughly_where_the_processor_has_it(tiny_folders, passages):
    pytest.importorskip("openvino")
    if not has_bfloat16():
        with pytest.raises(ConfigError, match="`dtype` is 'bfloat16', which this processor does not have"):
            Reranker(tiny_folders["bert"], backend="openvino", dtype="bfloat16")
        return
    exact, rough = (
        {hit.index: hit.logit for hit in Reranker(tiny_folders["bert"], **options).rank("oil chain", passages)}
        for options in ({"device": "cpu"}, {"backend": "openvino", "dtype": "bfloat16"})
    )

    # Enlarged random weights amplify bfloat16's 8 bits; a wrong mask is off by several units.
    assert rough == pytest.approx(exact, abs=1.0)


LAYERS = [
    ("deberta-v2", {"share_att_key": False}),
    ("deberta-v2", {"pos_att_type": ["c2p"]}),
    ("deberta-v2", {"pos_att_type": ["p2c"], "share_att_key": False}),
    ("deberta-v2", {"norm_rel_ebd": "none", "position_buckets": -1, "max_relative_positions": 5}),
    ("deberta-v2", {"position_biased_input": True}),
    ("deberta-v2", {"relative_attention": False, "position_biased_input": True}),
    ("modernbert", {"attention_bias": True, "mlp_bias": True, "norm_bias": True}),
    ("modernbert", {"global_attn_every_n_layers": 1}),
    ("modernbert", {"layer_types": ["sliding_attention"] * 3, "local_attention": 2}),
]


@pytest.mark.parametrize(("kind", "runtime"), thinned(LAYERS, PACKAGES), ids=str, indirect=["runtime"])
def test_every_kind_of_layer_is_that_of_torch(runtime, kind):
    backbone, changes = kind
    encoder = {**encoder_values(backbone), **changes}
    try:
        AutoConfig.for_model(**encoder)
    except StrictDataclassError:
        pytest.skip("an old transformers takes no ModernBERT with layers of one kind")
    checkpoint = tiny_checkpoint(backbone, **head_values("averaged tokens", backbone), encoder_config=encoder)
    torch_backend, exported = both(checkpoint, runtime, "shared_query")
    request = blocks(checkpoint, 3, 40, 0)

    assert exported.block_logits(request, [[1, 0], [2]], {}, 0) == pytest.approx(
        torch_backend.block_logits(request, [[1, 0], [2]], {}, 0), abs=TOLERANCE
    )


@pytest.mark.parametrize("runtime", first_of("openvino", "onnx"), indirect=True)
def test_a_passage_cache_serves_every_backend_and_any_may_make_it(runtime, tmp_path):
    texts = ["Oil the chain.", "A chain slips when it is worn or too long.", "The capital of Peru is Lima.", "Brakes"]
    query = "why does a chain slip?"
    Reranker(DEFAULT_MODEL, device="cpu").precompute(texts[1:], tmp_path / "by torch")
    Reranker(DEFAULT_MODEL, backend=runtime).precompute(texts[1:], tmp_path / "by another")
    for path in (tmp_path / "by torch").iterdir():
        assert path.read_bytes() == (tmp_path / "by another" / path.name).read_bytes()

    def logits(cache, **options):
        found = Reranker(DEFAULT_MODEL, device="cpu", passage_cache=cache, **options).rank(query, texts)
        return [hit.logit for hit in sorted(found, key=lambda hit: hit.index)]

    expected = logits(tmp_path / "by torch")
    assert logits(tmp_path / "by torch", backend=runtime) == pytest.approx(expected, abs=5 * TOLERANCE)
    assert logits(tmp_path / "by torch", backend=runtime, dtype="int8") == pytest.approx(expected, abs=0.8)


def test_an_engine_runs_both_plans_of_requests(runtime):
    checkpoint = tiny_checkpoint("bert")
    _, exported = both(checkpoint, runtime, "shared_query")

    rows = BlockExecutor(exported, batch_tokens=64).logits([blocks(checkpoint, 3, 90, 5), blocks(checkpoint, 1)])

    assert [len(row) for row in rows] == [3, 1]
