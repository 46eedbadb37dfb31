"""Exported backends in int8: how far off they may be, and what is quantised."""

import pytest
import torch
from exported_networks import PACKAGES, TOLERANCE, blocks, first_of, head_values
from grids import thinned
from tiny_checkpoints import BACKBONES, tiny_checkpoint, write_tiny_checkpoint

from gliclass_rerank import Reranker
from gliclass_rerank.checkpoint.location import DEFAULT_MODEL
from gliclass_rerank.runtime import export
from gliclass_rerank.runtime.export import build_executor
from gliclass_rerank.runtime.graphs.layers import float_activations
from gliclass_rerank.runtime.graphs.registry import layer_writer
from gliclass_rerank.runtime.quantisation import Observer, observed_inputs
from gliclass_rerank.runtime.resolve import adds_int8_in_pairs, resolve_runtime

# Of exact and rounded logits. Enlarged random weights amplify the rounding, most of all ModernBERT's, whose layers
# multiply two of their outputs; leaving any one kind of linear layer in float32 does not mend it.
CORRELATION = {"bert": 0.98, "deberta-v2": 0.98, "modernbert": 0.93}
# With half the integers, for processors that add products in pairs.
PAIRED_CORRELATION = {"bert": 0.97, "deberta-v2": 0.97, "modernbert": 0.85}
INTEGERS = {"blocks": ("shared_query", "averaged tokens"), "windows": ("joint", "first token")}


@pytest.mark.parametrize(("kind", "backbone", "runtime"), thinned(INTEGERS, BACKBONES, PACKAGES), indirect=["runtime"])
def test_int8_agrees_roughly_and_lets_no_companion_in(runtime, backbone, tmp_path, passages, kind):
    plan, head = INTEGERS[kind]
    changes = head_values(head, backbone, attention_plan=plan, candidate_position_start=0)
    folder = write_tiny_checkpoint(tmp_path / "tiny", backbone, **changes)
    exact, rough = (
        Reranker(folder, device="cpu", window_tokens=64, **options)
        for options in ({}, {"backend": runtime, "dtype": "int8"})
    )

    def logits(reranker, texts):
        return {texts[hit.index]: hit.logit for hit in reranker.rank("chain slip", texts)}

    expected, found = logits(exact, passages), logits(rough, passages)

    pairs = torch.tensor([[expected[key], found[key]] for key in passages]).T
    least = PAIRED_CORRELATION if adds_int8_in_pairs() else CORRELATION
    assert torch.corrcoef(pairs)[0, 1] > least[backbone]
    assert found != pytest.approx(expected, abs=TOLERANCE)  # it is not float32 after all
    if kind == "blocks":
        assert {key: logits(rough, [key])[key] for key in passages} == pytest.approx(found, abs=0.05)


@pytest.mark.parametrize("backbone", first_of(*BACKBONES))
def test_the_second_feed_forward_matrix_of_the_lower_half_of_the_layers_reads_no_integers(backbone, tmp_path, cache):
    onnx = pytest.importorskip("onnx")
    values = head_values("every layer", backbone, attention_plan="joint")
    model = tiny_checkpoint(backbone, **values).model.encoder_model

    Reranker(write_tiny_checkpoint(tmp_path / "tiny", backbone, **values), backend="onnx", dtype="int8")

    (path,) = cache.rglob("*.onnx")
    rounded = [node for node in onnx.load(path).graph.node if node.op_type == "QuantizeLinear"]
    num_layers = model.config.num_hidden_layers
    assert len(rounded) == 4 * num_layers - num_layers // 2
    assert float_activations(model) == {f"{layer}.inner" for layer in range(num_layers // 2)}


def test_weights_leave_room_for_pairs_of_products_where_the_processor_adds_them(tmp_path, cache, monkeypatch):
    onnx = pytest.importorskip("onnx")
    folder, seen = write_tiny_checkpoint(tmp_path / "tiny", "bert"), set()

    for in_pairs, limit in ((True, 64), (False, 127)):
        monkeypatch.setattr(export, "adds_int8_in_pairs", lambda in_pairs=in_pairs: in_pairs)
        Reranker(folder, backend="onnx", dtype="int8")
        made = set(cache.rglob("*.onnx")) - seen  # no graph of another kind of processor is taken
        seen |= made
        for path in made:
            weights = [onnx.numpy_helper.to_array(each) for each in onnx.load(path).graph.initializer]
            assert max(abs(each.astype(int)).max() for each in weights if each.dtype == "int8") == limit
        assert made


def test_what_keys_are_made_from_is_watched_whole_where_the_last_layer_reads_markers_alone(backbone):
    checkpoint = tiny_checkpoint(backbone, **head_values("first token", backbone))
    request = blocks(checkpoint, 4, 9)
    last = checkpoint.model.encoder_model.config.num_hidden_layers - 1
    seen_tokens = {}

    def count(site, rows):
        seen_tokens[site] = seen_tokens.get(site, 0) + rows.flatten(0, -2).shape[0]

    for site, each in layer_writer(checkpoint.model.encoder_model).watched(checkpoint.model.encoder_model).items():
        if each.gives:
            each.module.register_forward_hook(lambda _, given, rows, site=site: count(site, rows))
        else:
            each.module.register_forward_pre_hook(lambda _, given, site=site: count(site, given[0]))
    runtime = resolve_runtime(
        checkpoint.config, backend="torch", device="cpu", batch_tokens=1
    )  # a sequence at a time: no padding

    build_executor(checkpoint.model, runtime, plan="shared_query").logits([request])

    num_tokens = len(request.query_ids) + sum(map(len, request.candidate_ids))
    assert max(number for site, number in seen_tokens.items() if site.startswith(f"{last}.")) >= num_tokens


@pytest.mark.parametrize("backbone", ["bert", "deberta-v2"])
def test_what_attention_gives_has_the_bounds_of_the_values(backbone):
    checkpoint = tiny_checkpoint(backbone, **head_values("averaged tokens", backbone))
    encoder = checkpoint.model.encoder_model
    runtime = resolve_runtime(checkpoint.config, backend="torch", device="cpu", batch_tokens=1)
    executor = build_executor(checkpoint.model, runtime, plan="shared_query")
    read = {
        f"{layer}.context": Observer(module.attention.output.dense)
        for layer, module in enumerate(encoder.encoder.layer)
    }

    def seen(watched):
        return observed_inputs(watched, lambda: executor.logits([blocks(checkpoint, 4, 9)]))

    bounds, given = seen(layer_writer(encoder).watched(encoder)), seen(read)
    for site, found in given.items():
        assert (bounds[site].lowest <= found.lowest + 1e-6).all()
        assert (bounds[site].highest >= found.highest - 1e-6).all()
        assert (bounds[site].highest > found.highest + 0.01).any()  # room for texts that attend to one token alone


@pytest.mark.parametrize("runtime", first_of("openvino", "onnx"), indirect=True)
def test_a_bundled_model_in_int8_keeps_the_order(runtime):
    texts = ["Oil the chain.", "A chain slips when it is worn or too long.", "The capital of Peru is Lima.", "Brakes"]

    found = Reranker(DEFAULT_MODEL, backend=runtime, dtype="int8").rank("why does a chain slip?", texts)

    expected = Reranker(DEFAULT_MODEL, device="cpu").rank("why does a chain slip?", texts)
    assert [hit.index for hit in found] == [hit.index for hit in expected]
    # Logits of this model spread over several units; the quantised ones are 0.15 off on average.
    assert [hit.logit for hit in found] == pytest.approx([hit.logit for hit in expected], abs=0.8)
