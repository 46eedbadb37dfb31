"""Writes a backbone's transformer layers as ONNX graphs: the query's, and the passages' against the query.

The graphs hold the layers alone. Embeddings go in and states come out; what is before and behind (word tables,
segments, pooling, scorers) stays in torch, costs next to nothing there, and so every head runs on every backend. They
are written out by hand, because a tracer would need a package more and would fix what depends on lengths.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from gliclass_rerank.runtime.graphs.layers import num_layers
from gliclass_rerank.runtime.graphs.registry import layer_writer
from gliclass_rerank.runtime.graphs.writer import GraphWriter, layer_output
from gliclass_rerank.runtime.quantisation import MinMax


def key_name(layer: int) -> str:
    """Name of the query's keys in a layer, [1, num_heads, query_len, head_dim]."""
    return f"key_{layer}"


def value_name(layer: int) -> str:
    """Name of the query's values in a layer, of the same shape."""
    return f"value_{layer}"


@dataclass(frozen=True, kw_only=True)
class LayerPlan:
    """What the graphs compute, beside the weights.

    Attributes:
        start: First layer in which passages see the query.
        all_layers: Whether every layer's states are an output, else the last one's.
        read_tokens: How many of a passage's first tokens the last layer is finished for; None for all.
        key_bias: FloatTensor [num_layers, num_heads], added to a passage's attention scores of the query's tokens; None
            for no bias.
        inputs: What goes into the linear layers, by the sites of `LayerWriter.watched`: those named compute with 8-bit
            integers, the others in float32. None for none.
        cached_layer: The layer whose input is known of some passages, at most `start`; None if of none.
    """

    start: int
    all_layers: bool
    read_tokens: int | None
    key_bias: Tensor | None
    inputs: Mapping[str, MinMax] | None = None
    cached_layer: int | None = None


def window_graph(backbone: nn.Module, plan: LayerPlan) -> Any:  # Any: onnx has no types
    """The graph that encodes whole sequences: passages that see no query.

    Args:
        backbone: A backbone made by `build_backbone`.
        plan: What to compute; only `all_layers` and `inputs` are looked at.

    Returns:
        An ONNX model as that of `passage_graph`, without keys and values.
    """
    alone = replace(plan, start=num_layers(backbone), read_tokens=None, key_bias=None)
    return passage_graph(backbone, alone)


def query_graph(backbone: nn.Module, plan: LayerPlan) -> Any:  # Any: see window_graph
    """The graph that encodes a query.

    Args:
        backbone: A backbone made by `build_backbone`.
        plan: What to compute.

    Returns:
        An ONNX model with the inputs of `passage_graph` (of one row, and nothing but 0 in `padding`), to the keys and
        values from layer `start` on, and the layers' states.
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
    """The graph that encodes passages against a query's memory.

    Args:
        backbone: A backbone made by `build_backbone`.
        plan: What to compute.

    Returns:
        An ONNX model from `states`, FloatArray [1, all_tokens, hidden], the embeddings of all rows after each other,
        without padding, and any filling after them (without the first axis onnxruntime would not use integers);
        `packed_at` and `padded_at`, where each token of the padded rows is among these and the other way round;
        `padding`, FloatArray [rows, 1, 1, tokens], 0 on real tokens and a large negative number on padding; what
        `position_inputs` gives; and the query's keys and values, to the layers' states, FloatArray
        [rows, tokens, hidden], of which the last may hold fewer tokens.
    """
    return _passages(backbone, plan, lowest=0)


def known_graph(backbone: nn.Module, plan: LayerPlan) -> Any:  # Any: see window_graph
    """The graph that goes on with passages whose states are known.

    Args:
        backbone: A backbone made by `build_backbone`.
        plan: What to compute; not `all_layers`.

    Returns:
        An ONNX model as that of `passage_graph`, of which `states` are the input of layer `cached_layer`.
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
    return GraphWriter(config.hidden_size, config.num_attention_heads, plan.inputs)


def _model(graph: GraphWriter, states: Sequence[str], *, all_layers: bool) -> Any:  # Any: see window_graph
    last = len(states) - 1
    for number in range(0 if all_layers else last, last + 1):
        shape: list[int | str] = ["rows", f"tokens_{number}", graph.width]
        graph.output(graph.add("Identity", [states[number]], name=layer_output(number)), shape)
    return graph.model()
