"""ONNX graphs of a backbone's layers: the query's, and the passages' against the query.

Graphs map embeddings to states. Word tables, segments, pooling and scorers stay in torch, where they cost next to
nothing, so every head runs on every backend. Graphs are written by hand: a tracer would add a dependency and freeze
length-dependent constants.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from gliclass_rerank.runtime.graphs.layers import num_layers
from gliclass_rerank.runtime.graphs.registry import layer_writer
from gliclass_rerank.runtime.graphs.writer import GraphWriter, layer_output
from gliclass_rerank.runtime.quantisation import FULL_WEIGHT_LIMIT, MinMax


def key_name(layer: int) -> str:
    """Name of the query's keys in a layer, [1, num_heads, query_len, head_dim]."""
    return f"key_{layer}"


def value_name(layer: int) -> str:
    """Name of the query's values in a layer, [1, num_heads, query_len, head_dim]."""
    return f"value_{layer}"


@dataclass(frozen=True, kw_only=True)
class LayerPlan:
    """Settings of the graphs beside the weights.

    Attributes:
        start: First layer in which passages see the query.
        all_layers: Output every layer's states, not only the last one's.
        read_tokens: Leading tokens of a passage that the last layer computes; None for all.
        key_bias: FloatTensor [num_layers, num_heads], added to passages' attention scores on query tokens; None for
            none.
        inputs: Observed ranges by activation name; these run in int8, others in float32. None for no int8.
        weight_limit: Largest weight in int8.
        cached_layer: Layer whose input is cached for some passages, at most `start`; None if no passage is cached.
    """

    start: int
    all_layers: bool
    read_tokens: int | None
    key_bias: Tensor | None
    inputs: Mapping[str, MinMax] | None = None
    weight_limit: int = FULL_WEIGHT_LIMIT
    cached_layer: int | None = None


def window_graph(backbone: nn.Module, plan: LayerPlan) -> Any:  # Any: onnx has no types
    """Graph of full attention over whole sequences.

    Args:
        backbone: Backbone made by `build_backbone`.
        plan: Settings; only `all_layers` and `inputs` are used.

    Returns:
        ONNX model like `passage_graph`'s, without keys and values.
    """
    alone = replace(plan, start=num_layers(backbone), read_tokens=None, key_bias=None)
    return passage_graph(backbone, alone)


def query_graph(backbone: nn.Module, plan: LayerPlan) -> Any:  # Any: see window_graph
    """Graph of the query encoder.

    Args:
        backbone: Backbone made by `build_backbone`.
        plan: Settings.

    Returns:
        ONNX model from the inputs of `passage_graph` (one row, no padding) to keys and values from layer `start` on,
        and layer states.
    """
    graph = _graph(backbone, plan)
    layers = layer_writer(backbone)(graph, backbone)
    states = graph.states
    found = [states]
    for layer in range(num_layers(backbone)):
        read = layers.read(layer, states)
        keys, values = layers.keys_values(layer, read)
        if layer >= plan.start:
            shape: list[int | str] = [1, graph.num_heads, "tokens", graph.head_width]
            graph.output(graph.add("Identity", [keys], name=key_name(layer)), shape)
            graph.output(graph.add("Identity", [values], name=value_name(layer)), shape)
        mask = layers.mask(layer, None, sees_all=True)
        context = graph.packed(layers.attend(layer, layers.queries(layer, read), keys, values, mask))
        states = layers.finish(layer, states, context)
        found.append(states)
    outputs = [graph.padded(each) for each in found]
    return _model(graph, [*outputs[:-1], layers.close(outputs[-1])], all_layers=plan.all_layers)


def passage_graph(backbone: nn.Module, plan: LayerPlan) -> Any:  # Any: see window_graph
    """Graph of the passage encoder against a query's memory.

    Args:
        backbone: Backbone made by `build_backbone`.
        plan: Settings.

    Returns:
        ONNX model to layer states, FloatArray [rows, tokens, hidden] (the last may have fewer tokens). Inputs:
        `states`, FloatArray [1, all_tokens, hidden], packed embeddings and filling (ONNX Runtime needs the first axis
        for int8); `packed_at` and `padded_at`, each padded token's packed position and the reverse; `padding`,
        FloatArray [rows, 1, 1, tokens], 0 on tokens and a large negative number on padding; `position_inputs`; and the
        query's keys and values.
    """
    return _passages(backbone, plan, lowest=0)


def known_graph(backbone: nn.Module, plan: LayerPlan) -> Any:  # Any: see window_graph
    """Graph of the passage encoder from cached states on.

    Args:
        backbone: Backbone made by `build_backbone`.
        plan: Settings, without `all_layers`.

    Returns:
        ONNX model like `passage_graph`'s, whose `states` are the input of layer `cached_layer`.
    """
    assert plan.cached_layer is not None, "nothing is known"
    return _passages(backbone, plan, lowest=plan.cached_layer)


def _passages(backbone: nn.Module, plan: LayerPlan, *, lowest: int) -> Any:  # Any: see window_graph
    graph = _graph(backbone, plan)
    layers = layer_writer(backbone)(graph, backbone)
    last = num_layers(backbone) - 1
    states = graph.states
    shared_shape: list[int | str] = [1, graph.num_heads, "query_tokens", graph.head_width]
    outputs = [graph.padded(states)]
    for layer in range(lowest, last + 1):
        read = layers.read(layer, states)
        keys, values = layers.keys_values(layer, read)
        mask, sees_query = graph.padding, layer >= plan.start
        if sees_query:
            shared_keys = graph.input(key_name(layer), shared_shape)
            shared_values = graph.input(value_name(layer), shared_shape)
            mask = graph.shared_mask(shared_keys, None if plan.key_bias is None else plan.key_bias[layer])
            keys, values = graph.prepend(shared_keys, keys), graph.prepend(shared_values, values)
        first = plan.read_tokens if layer == last else None
        added = layers.mask(layer, mask, sees_all=sees_query, first=first)
        if first is not None:
            states = graph.first_tokens(outputs[-1], first)
            queries = layers.queries(layer, layers.read(layer, states), first=first)
            states = layers.finish(layer, states, layers.attend(layer, queries, keys, values, added))
            outputs.append(graph.split(states, graph.width))
        else:
            queries = layers.queries(layer, read)
            context = graph.packed(layers.attend(layer, queries, keys, values, added))
            states = layers.finish(layer, states, context)
            outputs.append(graph.padded(states))
    return _model(graph, [*outputs[:-1], layers.close(outputs[-1])], all_layers=plan.all_layers)


def _graph(backbone: nn.Module, plan: LayerPlan) -> GraphWriter:
    config: Any = backbone.config  # Any: a config of transformers, untyped there
    return GraphWriter(config.hidden_size, config.num_attention_heads, plan.inputs, weight_limit=plan.weight_limit)


def _model(graph: GraphWriter, states: Sequence[str], *, all_layers: bool) -> Any:  # Any: see window_graph
    last = len(states) - 1
    for number in range(0 if all_layers else last, last + 1):
        shape: list[int | str] = ["rows", f"tokens_{number}", graph.width]
        graph.output(graph.add("Identity", [states[number]], name=layer_output(number)), shape)
    return graph.model()
