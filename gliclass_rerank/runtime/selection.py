"""Builds the backend that was chosen for a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from gliclass_rerank._imports import require, require_onnxruntime, require_openvino
from gliclass_rerank.errors import ConfigError, listed, shown
from gliclass_rerank.model.config import AttentionPlan
from gliclass_rerank.model.gliclass import GLiClass
from gliclass_rerank.model.head import ScoringHead
from gliclass_rerank.model.markers import block_tokens_read
from gliclass_rerank.runtime.backend import Backend
from gliclass_rerank.runtime.cache_entry import Entry
from gliclass_rerank.runtime.choice import Choice, unsupported_reason
from gliclass_rerank.runtime.engine import Engine
from gliclass_rerank.runtime.exported import GRAPHS, ExportedLayers, graphs_of
from gliclass_rerank.runtime.foreign_errors import as_backend_error
from gliclass_rerank.runtime.graph_cache import cached_graphs, default_cache_folder, graph_key, shrink_graphs
from gliclass_rerank.runtime.graphs.encoders import LayerPlan
from gliclass_rerank.runtime.graphs.layers import float_activations
from gliclass_rerank.runtime.graphs.registry import layer_writer
from gliclass_rerank.runtime.placement import Placement, dtype_name, resolve_placement
from gliclass_rerank.runtime.quantisation import observed_inputs
from gliclass_rerank.runtime.sessions import PRECISIONS, Precision, Runtime
from gliclass_rerank.runtime.torch_backend import TorchBackend
from gliclass_rerank.runtime.worker_thread import WorkerThread
from gliclass_rerank.types import Blocks, Window


def build_backend(
    model: ScoringHead,
    *,
    plan: AttentionPlan | None,
    choice: Choice,
    device: str | torch.device | None = None,
    batch_tokens: int | None = None,
    threads: int | None = None,
    sample: Callable[[], Sequence[Window | Blocks]] = tuple,
    cached_layer: int | None = None,
    cache_folder: Path | None = None,
) -> tuple[Backend, Placement]:
    """Build what runs a network; an export that is not in the cache is made first.

    Args:
        model: The network, on the CPU.
        plan: The attention plan; None for bi-encoders.
        choice: What `choose_backend` found: the `dtype` is as for `resolve_placement`; of an exported model `float32`
            (None) or `int8`, with openvino also `bfloat16`.
        device: As for `resolve_placement`; exported models run on the CPU.
        batch_tokens: As for `resolve_placement`.
        threads: As for `resolve_placement`.
        sample: Gives the requests of typical texts, which int8 is fitted to; called when such an export is made.
        cached_layer: The layer at whose input candidates' states may be given; None if they never are.
        cache_folder: Where exports are kept; None for the default.

    Returns:
        The backend, and where it runs. What stays in torch beside an exported backbone runs in float32.

    Raises:
        ConfigError: A setting that is unknown, or a checkpoint that the backend cannot serve.
        MissingDependencyError: The backend is not installed.
        BackendError: The export cannot be kept or loaded.
    """
    if choice.backend == "torch":
        if choice.dtype == "int8":
            raise ConfigError("`dtype` 'int8' needs the `backend` 'onnx' or 'openvino'")
        placement = resolve_placement(device, choice.dtype, batch_tokens, threads)
        return _on_threads(TorchBackend(model, placement), placement), placement
    runtime = choice.backend
    precision = _precision(runtime, choice.dtype)
    placement = _on_cpu(runtime, device, batch_tokens, threads)
    if reason := unsupported_reason(model.config):
        raise ConfigError(f"the backend {runtime!r} cannot run this checkpoint: {reason}")
    if runtime == "onnx":
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
    )
    requests = tuple(sample()) if precision == "int8" else None
    cache = cache_folder or default_cache_folder()
    entry = _exported(model, plan, layers, requests, cache)
    runner = ExportedLayers(
        model.encoder_model, entry, runtime=runtime, precision=precision, threads=threads or torch.get_num_threads()
    )
    shrink_graphs(cache)
    return _on_threads(TorchBackend(model, placement, runner), placement), placement


def _precision(runtime: Runtime, dtype: str | torch.dtype | None) -> Precision:
    chosen = "float32" if dtype is None else dtype_name(dtype)
    if chosen not in PRECISIONS[runtime]:
        raise ConfigError(
            f"`dtype` must be one of {listed(PRECISIONS[runtime])} for the `backend` {runtime!r}, got {shown(dtype)}"
        )
    return chosen


def _on_threads(backend: Backend, placement: Placement) -> Backend:
    return backend if placement.threads is None else WorkerThread(backend, placement.threads)


def _on_cpu(
    runtime: Runtime, device: str | torch.device | None, batch_tokens: int | None, threads: int | None
) -> Placement:
    placement = resolve_placement("cpu" if device is None else device, torch.float32, batch_tokens, threads)
    if placement.device.type != "cpu":
        raise ConfigError(f"the backend {runtime!r} runs on the CPU only, got `device` {shown(device)}")
    return placement


def _exported(
    model: GLiClass,
    plan: AttentionPlan,
    layers: LayerPlan,
    sample: tuple[Window | Blocks, ...] | None,
    cache: Path,
) -> Entry:
    """The entry with the graphs of a plan, in integers fitted to a sample, if there is one, else in float32."""
    settings = {
        "plan": plan,
        "sample": None if sample is None else repr(sample),
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
        with as_backend_error("the model could not be exported"):
            written = layers if sample is None else _fitted(model, layers, sample)
            for name in graphs_of(plan, layers):
                onnx.save(GRAPHS[name](model.encoder_model, written), folder / f"{name}.onnx")

    return cached_graphs(cache, graph_key(weights, settings), build)


def _fitted(model: GLiClass, layers: LayerPlan, sample: Sequence[Window | Blocks]) -> LayerPlan:
    # One sequence at a time, because padding would count.
    placement = resolve_placement("cpu", torch.float32, 1)
    engine = Engine(TorchBackend(model, placement), batch_tokens=placement.batch_tokens)
    backbone = model.encoder_model
    kept = float_activations(backbone)
    watched = {name: each for name, each in layer_writer(backbone).watched(backbone).items() if name not in kept}
    return replace(layers, inputs=observed_inputs(watched, lambda: engine.run(sample)))
