"""Export of a network's layers to graphs, and construction of a checkpoint's executor."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from tqdm import tqdm

from gliclass_rerank._imports import require, require_onnxruntime, require_openvino
from gliclass_rerank.errors import ConfigError
from gliclass_rerank.model.config import AttentionPlan
from gliclass_rerank.model.gliclass import GLiClass
from gliclass_rerank.model.head import ScoringHead
from gliclass_rerank.model.pooling import block_tokens_read
from gliclass_rerank.runtime.cache_entry import Entry
from gliclass_rerank.runtime.executor import BlockExecutor, Executor, Network, TorchNetwork, WindowExecutor
from gliclass_rerank.runtime.exported import GRAPHS, ExportedLayers, graphs_of
from gliclass_rerank.runtime.foreign_errors import as_backend_error
from gliclass_rerank.runtime.graph_cache import cached_graphs, default_cache_folder, graph_key, shrink_graphs
from gliclass_rerank.runtime.graphs.encoders import LayerPlan
from gliclass_rerank.runtime.graphs.layers import float_activations
from gliclass_rerank.runtime.graphs.registry import layer_writer
from gliclass_rerank.runtime.packed import packed_executor
from gliclass_rerank.runtime.passage_cache import PassageCache
from gliclass_rerank.runtime.quantisation import FULL_WEIGHT_LIMIT, PAIRED_WEIGHT_LIMIT, observed_inputs
from gliclass_rerank.runtime.resolve import ResolvedRuntime, adds_int8_in_pairs, export_refusal, resolve_runtime
from gliclass_rerank.runtime.worker_thread import WorkerThread, beside_exported_layers
from gliclass_rerank.types import Blocks, Window

if TYPE_CHECKING:
    from gliclass_rerank.runtime.sessions import Precision

logger = logging.getLogger(__name__)

Sample = Callable[[], Sequence[Any]]  # Any: windows or blocks, depending on the plan


def build_executor(
    model: ScoringHead,
    runtime: ResolvedRuntime,
    *,
    plan: AttentionPlan | None,
    sample: Sample = tuple,
    passage_cache: PassageCache | None = None,
    cache_folder: Path | None = None,
) -> Executor[Any]:  # Any: windows or blocks, depending on the plan
    """Build a network's executor, exporting its layers first if the cache has no matching graphs.

    Args:
        model: Network, on the CPU.
        runtime: Resolved runtime.
        plan: Attention plan; None for bi-encoders.
        sample: Source of typical requests for int8 calibration; called only when an int8 export is made.
        passage_cache: Precomputed candidate states; None for none.
        cache_folder: Graph cache; None for the default.

    Returns:
        The executor. Parts that stay in torch beside an exported backbone run in float32.

    Raises:
        ConfigError: The backend cannot serve the checkpoint.
        MissingDependencyError: The backend is not installed.
        BackendError: The export cannot be stored or loaded.
    """
    if runtime.attention != "padded":
        assert isinstance(model, GLiClass), "other architectures run padded rows"
        assert plan is not None, "a uni-encoder has a plan"
        return packed_executor(model, runtime, plan)
    layer = None if passage_cache is None else passage_cache.layer
    runner = None
    if runtime.backend != "torch":
        runner = _exported_layers(model, runtime, plan, sample, layer, cache_folder or default_cache_folder())
    network: Network = TorchNetwork(model, runtime, runner)
    if runner is not None:
        network = beside_exported_layers(network)
    elif runtime.threads is not None:
        network = WorkerThread(network, runtime.threads)
    if plan == "joint" or model.config.architecture_type == "bi-encoder-fused":
        return WindowExecutor(network, batch_tokens=runtime.batch_tokens, has_tight_groups=runtime.computes_padding)
    return BlockExecutor(
        network,
        batch_tokens=runtime.batch_tokens,
        has_tight_groups=runtime.computes_padding,
        passage_cache=passage_cache,
    )


def _exported_layers(
    model: ScoringHead,
    runtime: ResolvedRuntime,
    plan: AttentionPlan | None,
    sample: Sample,
    cached_layer: int | None,
    cache: Path,
) -> ExportedLayers:
    backend = runtime.backend
    assert backend != "torch", "nothing is exported for torch"
    if reason := export_refusal(model.config):
        raise ConfigError(f"the backend {backend!r} cannot run this checkpoint: {reason}")
    if backend == "onnx":
        require_onnxruntime(extra="onnx")
    else:
        require_openvino()
    assert isinstance(model, GLiClass), "other architectures are refused above"
    assert plan is not None, "a uni-encoder has a plan"
    layers = LayerPlan(
        start=model.config.query_attention_start,
        all_layers=model.config.reads_all_layers,
        read_tokens=block_tokens_read(model.config),
        key_bias=model.query_key_bias,
        cached_layer=cached_layer,
        weight_limit=PAIRED_WEIGHT_LIMIT if adds_int8_in_pairs() else FULL_WEIGHT_LIMIT,
    )
    requests = tuple(sample()) if runtime.dtype == "int8" else None
    entry = _exported(model, plan, layers, requests, cache, f"{backend} {runtime.dtype}")
    exported = ExportedLayers(
        model.encoder_model,
        entry,
        runtime=backend,
        precision=cast("Precision", runtime.dtype),  # checked when it was resolved
        threads=runtime.threads or torch.get_num_threads(),
    )
    shrink_graphs(cache)
    return exported


def _exported(
    model: GLiClass,
    plan: AttentionPlan,
    layers: LayerPlan,
    sample: tuple[Window, ...] | tuple[Blocks, ...] | None,
    cache: Path,
    title: str,
) -> Entry:
    """Cache entry with a plan's graphs: int8 calibrated on the sample if there is one, else float32."""
    settings = {
        "plan": plan,
        "sample": None if sample is None else repr(sample),
        "weight_limit": None if sample is None else layers.weight_limit,
        "encoder_config": dict(model.config.encoder_config),
        "start": layers.start,
        "all_layers": layers.all_layers,
        "read_tokens": layers.read_tokens,
        "cached_layer": layers.cached_layer,
    }
    weights = torch.nn.Module()
    for name, module in layer_writer(model.encoder_model).weights(model.encoder_model).items():
        weights.add_module(name, module)  # the embeddings stay in torch
    if layers.key_bias is not None:
        weights.key_bias = layers.key_bias

    def build(folder: Path) -> None:
        onnx = require("onnx", extra="onnx")
        names = graphs_of(plan, layers)
        num_layers = model.config.shape.num_layers
        logger.info("exporting %d layers for %s, once, to %s", num_layers, title, cache)
        with (
            # disable=None: no bar where stderr is not a terminal
            tqdm(total=len(sample or ()) + len(names), desc=f"exporting for {title}", disable=None, leave=False) as bar,
            as_backend_error("the model could not be exported"),
        ):
            written = layers if sample is None else _fitted(model, plan, layers, sample, bar.update)
            for name in names:
                onnx.save(GRAPHS[name](model.encoder_model, written), folder / f"{name}.onnx")
                bar.update()

    return cached_graphs(cache, graph_key(weights, settings), build)


def _fitted(
    model: GLiClass,
    plan: AttentionPlan,
    layers: LayerPlan,
    sample: Sequence[Window] | Sequence[Blocks],
    on_observed: Callable[[], object],
) -> LayerPlan:
    # One sequence at a time, because padding would distort the calibration.
    runtime = resolve_runtime(model.config, backend="torch", device="cpu", dtype="float32", batch_tokens=1)
    executor = build_executor(model, runtime, plan=plan)
    backbone = model.encoder_model
    kept = float_activations(backbone)
    watched = {name: each for name, each in layer_writer(backbone).watched(backbone).items() if name not in kept}

    def run() -> None:
        for request in sample:
            executor.logits([request])
            on_observed()

    return replace(layers, inputs=observed_inputs(watched, run))
