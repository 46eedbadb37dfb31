"""Exported backends against torch, on the same weights and the same batches."""

import pickle
import threading

import numpy as np
import pytest
import torch
from grids import thinned
from tiny_checkpoints import BACKBONES, WORDS, encoder_values, tiny_checkpoint, write_tiny_checkpoint

from gliclass_rerank import Example, Reranker, ZeroShotClassifier
from gliclass_rerank.checkpoint.location import DEFAULT_MODEL
from gliclass_rerank.errors import BackendError, ConfigError, MissingDependencyError
from gliclass_rerank.runtime import export, exported, graph_cache, openvino_cache
from gliclass_rerank.runtime.executor import BlockExecutor
from gliclass_rerank.runtime.export import build_executor
from gliclass_rerank.runtime.graphs.layers import float_activations
from gliclass_rerank.runtime.graphs.registry import layer_writer
from gliclass_rerank.runtime.quantisation import Observer, observed_inputs
from gliclass_rerank.runtime.resolve import resolve_runtime
from gliclass_rerank.runtime.sessions import open_session
from gliclass_rerank.types import Blocks, Window

PACKAGES = {"onnx": "onnxruntime", "openvino": "openvino"}
# Other kernels and another order of summation; logits are of order 1.
TOLERANCE = 1e-4
# What `assemble.from_cross_encoder` makes, what comes with the package, and what reads every layer.
HEADS = {
    "first token": {
        "class_token_pooling": "first",
        "use_segment_embeddings": True,
        "candidate_position_start": 8,
        "use_calibrator": False,
    },
    "token after the marker": {"class_token_pooling": "first", "embed_class_token": False},
    "averaged tokens": {"query_key_bias": True, "token_interaction": True, "query_attention_start": 1},
    "never sees the query": {"query_attention_start": 3},
    "every layer": {"squeeze_layers": True, "use_lstm": True},
    "an inner layer": {"encoder_layer_id": 2, "scorer_type": "mlp"},
}


@pytest.fixture(params=sorted(PACKAGES))
def runtime(request):
    pytest.importorskip(PACKAGES[request.param])
    return request.param


def first_of(*values):
    """The first always, the others with `-m slow`."""
    return [values[0], *(pytest.param(value, marks=pytest.mark.slow) for value in values[1:])]


@pytest.fixture(scope="module")
def shared_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cache") / "graphs"


@pytest.fixture(autouse=True)
def shared_cache(shared_folder, monkeypatch):
    """One for all tests, as a user has: both runtimes load the same export."""
    monkeypatch.setattr(export, "default_cache_folder", lambda: shared_folder)


@pytest.fixture
def cache(tmp_path, shared_cache, monkeypatch):
    """An empty one."""
    folder = tmp_path / "cache"
    monkeypatch.setattr(export, "default_cache_folder", lambda: folder)
    return folder


def blocks(checkpoint, *lengths):
    label = checkpoint.config.class_token_index
    return Blocks((2, 11, 13, 17, 3), tuple((label, *range(5, 5 + length), 3) for length in lengths))


def window(checkpoint, num_candidates):
    config = checkpoint.config
    candidates = [token for number in range(num_candidates) for token in (config.class_token_index, 7 + number)]
    ids = (2, *candidates, config.text_token_index, 11, 13, 3)
    return Window(ids, tuple(range(1, 1 + 2 * num_candidates, 2)), 1 + 2 * num_candidates)


def head_values(head, backbone, **changes):
    values = {**HEADS[head], **changes}
    if backbone != "bert":  # the others' positions are relative
        values.pop("candidate_position_start", None)
    return {"attention_plan": "shared_query", **values}


class CacheOfLayer:
    """Stands for a passage cache of which only the layer is looked at."""

    def __init__(self, layer):
        self.layer = layer


def network(model, backend, plan, **options):
    runtime = resolve_runtime(model.config, backend=backend, device="cpu")
    return build_executor(model, runtime, plan=plan, **options).network


def both(checkpoint, runtime, plan):
    """A network in torch and one with exported layers."""
    return (network(checkpoint.model, name, plan) for name in ("torch", runtime))


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


def test_bfloat16_is_openvinos_and_agrees_roughly(tiny_folders, passages):
    pytest.importorskip("openvino")
    exact, rough = (
        {hit.index: hit.logit for hit in Reranker(tiny_folders["bert"], **options).rank("oil chain", passages)}
        for options in ({"device": "cpu"}, {"backend": "openvino", "dtype": "bfloat16"})
    )

    # Enlarged random weights amplify bfloat16's 8 bits; a wrong mask is off by several units.
    assert rough == pytest.approx(exact, abs=1.0)
    with pytest.raises(
        ConfigError, match="`dtype` must be one of `float32`, `int8` for the `backend` 'onnx', got 'bfloat16'"
    ):
        Reranker(tiny_folders["bert"], backend="onnx", dtype="bfloat16")


# Of exact and rounded logits. Enlarged random weights amplify the rounding, most of all ModernBERT's, whose layers
# multiply two of their outputs; leaving any one kind of linear layer in float32 does not mend it.
CORRELATION = {"bert": 0.98, "deberta-v2": 0.98, "modernbert": 0.93}
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
    assert torch.corrcoef(pairs)[0, 1] > CORRELATION[backbone]
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


def test_an_export_is_made_once_for_each_network_and_plan(runtime, tmp_path, cache, monkeypatch):
    first = write_tiny_checkpoint(tmp_path / "first", "bert")
    Reranker(first, backend=runtime)
    (entry,) = cache.iterdir()
    compiled = {"passage.blob", "query.blob"} if runtime == "openvino" else set()
    kept = [path.name.partition(".")[0] + path.suffix for path in entry.iterdir()]
    assert sorted(kept) == sorted({"entry.json", "passage.onnx", "query.onnx"} | compiled)

    with monkeypatch.context() as patched:
        patched.setattr(export, "GRAPHS", {})  # nothing could be exported now
        Reranker(first, backend=runtime)
        Reranker(write_tiny_checkpoint(tmp_path / "same", "bert"), backend=runtime)
        with pytest.raises(BackendError, match="the model could not be exported: 'window'"):
            Reranker(first, backend=runtime, plan="joint")
    assert [path.name for path in cache.iterdir()] == [entry.name]  # a failed export leaves nothing behind

    Reranker(first, backend=runtime, plan="joint")
    Reranker(write_tiny_checkpoint(tmp_path / "other", "bert", query_attention_start=1), backend=runtime)
    changed = tiny_checkpoint("bert").model
    with torch.no_grad():
        changed.encoder_model.encoder.layer[1].output.dense.bias[3] += 1
    network(changed, runtime, "shared_query")
    assert len(list(cache.iterdir())) == 4


def test_one_of_several_processes_that_export_at_once_wins(tmp_path):
    def build(folder):
        (folder / "graph.onnx").write_text("ours")
        # Another process finishes first.
        graph_cache.cached_graphs(tmp_path, "key", lambda other: (other / "graph.onnx").write_text("theirs"))

    entry = graph_cache.cached_graphs(tmp_path, "key", build).folder

    assert (entry / "graph.onnx").read_text() == "theirs"
    assert list(tmp_path.iterdir()) == [entry]


def test_a_graph_that_a_runtime_cannot_read_and_a_cache_that_cannot_be_written_are_said(
    runtime, tiny_folders, tmp_path, monkeypatch
):
    (tmp_path / "passage.onnx").write_bytes(b"not a graph")
    with pytest.raises(BackendError, match=r"could not load `.*passage\.onnx`"):
        open_session(tmp_path / "passage.onnx", runtime, "float32", 1)

    (tmp_path / "file").touch()
    monkeypatch.setattr(export, "default_cache_folder", lambda: tmp_path / "file")
    with pytest.raises(BackendError, match=r"the exported model could not be kept in `.*file`"):
        Reranker(tiny_folders["bert"], backend=runtime)


def test_what_openvino_compiled_is_read_by_the_next_process_and_changes_nothing(tiny_folders, cache, monkeypatch):
    openvino = pytest.importorskip("openvino")

    def logits(threads=1):
        ranking = Reranker(tiny_folders["bert"], backend="openvino", threads=threads).rank("oil chain", WORDS)
        return {hit.index: hit.logit for hit in ranking}

    compiled = logits()
    assert sorted(path.name.partition(".")[0] for path in cache.rglob("*.blob")) == ["passage", "query"]

    monkeypatch.setattr(openvino.Core, "compile_model", pytest.fail)
    assert logits() == compiled
    assert logits(threads=2) == pytest.approx(compiled, abs=TOLERANCE)  # threads are the reader's own


@pytest.mark.parametrize(
    "damage", [lambda whole: whole[: len(whole) // 2], lambda whole: b"no model", lambda whole: b""]
)
def test_a_damaged_compiled_graph_is_made_again(tiny_folders, cache, damage):
    pytest.importorskip("openvino")
    Reranker(tiny_folders["bert"], backend="openvino")
    whole = {path: path.read_bytes() for path in cache.rglob("*.blob")}
    for path, content in whole.items():
        path.write_bytes(damage(content))

    assert len(Reranker(tiny_folders["bert"], backend="openvino").rank("oil chain", WORDS)) == len(WORDS)

    # A compiled graph holds times and addresses: it is never the same twice.
    for path, content in whole.items():
        assert path.read_bytes() != damage(content)
        assert path.stat().st_size == pytest.approx(len(content), rel=0.01)


def test_a_cache_that_cannot_be_written_to_costs_the_compiled_graphs_only(tiny_folders, cache, monkeypatch):
    pytest.importorskip("openvino")

    def full(path):
        raise OSError("disk full")

    monkeypatch.setattr(openvino_cache, "atomic_file", full)
    assert len(Reranker(tiny_folders["bert"], backend="openvino").rank("oil chain", WORDS)) == len(WORDS)
    assert not list(cache.rglob("*.blob"))


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
    checkpoint = tiny_checkpoint(backbone, **head_values("averaged tokens", backbone), encoder_config=encoder)
    torch_backend, exported = both(checkpoint, runtime, "shared_query")
    request = blocks(checkpoint, 3, 40, 0)

    assert exported.block_logits(request, [[1, 0], [2]], {}, 0) == pytest.approx(
        torch_backend.block_logits(request, [[1, 0], [2]], {}, 0), abs=TOLERANCE
    )


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


def test_an_engine_runs_both_plans_of_requests(runtime):
    checkpoint = tiny_checkpoint("bert")
    _, exported = both(checkpoint, runtime, "shared_query")

    rows = BlockExecutor(exported, batch_tokens=64).logits([blocks(checkpoint, 3, 90, 5), blocks(checkpoint, 1)])

    assert [len(row) for row in rows] == [3, 1]
