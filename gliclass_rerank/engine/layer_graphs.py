"""Writes a BERT's transformer layers as ONNX graphs: the query's, and the passages' against the query.

The graphs hold the layers alone. Embeddings go in and states come out; what is before and behind (word tables,
positions, segments, pooling, scorers) stays in torch, costs next to nothing there, and so every head runs on every
backend. They are written out by hand, because a tracer would need a package more and would fix what depends on lengths.

Axes are dynamic: `rows`, `tokens`, `query_tokens` of the query's memory, and `all_tokens`, what the linear layers see:
a runtime that prepares itself for each length can be given the same one again and again, whatever is in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from torch import Tensor, nn

from gliclass_rerank._optional import require
from gliclass_rerank.engine.quantisation import Extremes, InputScale, input_scale, quantised_weights
from gliclass_rerank.errors import listed

STATES, PADDING = "states", "padding"
_STATES, _CONTEXT, _ATTENDED, _INNER = "states", "context", "attended", "inner"
_OPSET: Final = 20
_IR_VERSION: Final = 10
_ACTIVATIONS: Final = {"gelu": ("Gelu", {}), "gelu_new": ("Gelu", {"approximate": "tanh"}), "relu": ("Relu", {})}


def layer_output(number: int) -> str:
    """Name of the states after `number` layers."""
    return f"layer_{number}"


def key_name(layer: int) -> str:
    """Name of the query's keys in a layer, [1, num_heads, query_len, head_dim]."""
    return f"key_{layer}"


def value_name(layer: int) -> str:
    """Name of the query's values in a layer, of the same shape."""
    return f"value_{layer}"


def unsupported_backbone(encoder_config: Mapping[str, Any]) -> str | None:  # Any: JSON
    """Why a backbone's layers cannot be written as a graph.

    Args:
        encoder_config: The backbone's config, with `model_type`.

    Returns:
        One sentence, or None if they can.
    """
    if encoder_config["model_type"] != "bert":
        return f"only backbones of the type `bert` can be exported so far, got {encoder_config['model_type']!r}"
    activation = encoder_config.get("hidden_act", "gelu")
    if activation not in _ACTIVATIONS:
        return f"only the activations {listed(_ACTIVATIONS)} can be exported, this backbone has {activation!r}"
    return None


@dataclass(frozen=True, kw_only=True)
class LayerPlan:
    """What the graphs compute, beside the weights.

    Attributes:
        start: First layer in which passages see the query.
        all_layers: Whether every layer's states are an output, else the last one's.
        read_tokens: How many of a passage's first tokens the last layer is finished for; None for all.
        key_bias: FloatTensor [num_layers, num_heads], added to a passage's attention scores of the query's tokens; None
            for no bias.
        inputs: What goes into the linear layers, by the names of `watched_modules`: those named compute with 8-bit
            integers, the others in float32. None for none.
    """

    start: int
    all_layers: bool
    read_tokens: int | None
    key_bias: Tensor | None
    inputs: Mapping[str, Extremes] | None = None


def watched_modules(backbone: nn.Module) -> dict[str, nn.Module]:
    """The modules whose inputs `LayerPlan.inputs` describes, by name."""
    watched = {}
    for layer, module in enumerate(_layers(backbone)):
        watched[_site(layer, _STATES)] = module.attention.self.query  # keys and values read the same
        watched[_site(layer, _CONTEXT)] = module.attention.output.dense
        watched[_site(layer, _ATTENDED)] = module.intermediate.dense
        watched[_site(layer, _INNER)] = module.output.dense
    return watched


def window_graph(backbone: nn.Module, plan: LayerPlan) -> Any:  # Any: onnx has no types
    """The graph that encodes whole sequences: passages that see no query.

    Args:
        backbone: A `transformers.BertModel`.
        plan: What to compute; only `all_layers` and `inputs` are looked at.

    Returns:
        An ONNX model as that of `passage_graph`, without keys and values.
    """
    alone = replace(plan, start=len(_layers(backbone)), read_tokens=None, key_bias=None)
    return passage_graph(backbone, alone)


def query_graph(backbone: nn.Module, plan: LayerPlan) -> Any:  # Any: see window_graph
    """The graph that encodes a query.

    Args:
        backbone: A `transformers.BertModel`.
        plan: What to compute.

    Returns:
        An ONNX model with the inputs of `passage_graph` (of one row, and nothing but 0 in `padding`), to the keys and
        values from layer `start` on, and the layers' states.
    """
    graph = _Graph(backbone, plan.inputs)
    states = graph.states
    layers = [states]
    for layer in range(graph.num_layers):
        keys, values = graph.keys_values(layer, states)
        if layer >= plan.start:
            shape = [1, graph.num_heads, "tokens", graph.head_width]
            graph.output(graph.add("Identity", [keys], name=key_name(layer)), shape)
            graph.output(graph.add("Identity", [values], name=value_name(layer)), shape)
        context = graph.filled(graph.attend(graph.queries(layer, states), keys, values, None), states)
        states = graph.finish(layer, states, context)
        layers.append(states)
    return graph.close([graph.in_rows(layer) for layer in layers], all_layers=plan.all_layers)


def passage_graph(backbone: nn.Module, plan: LayerPlan) -> Any:  # Any: see window_graph
    """The graph that encodes passages against a query's memory.

    Args:
        backbone: A `transformers.BertModel`.
        plan: What to compute.

    Returns:
        An ONNX model from `states`, FloatArray [1, all_tokens, hidden], the embeddings of all rows after each other
        and any filling after them (without the first axis onnxruntime would not use integers); `padding`, FloatArray
        [rows, 1, 1, tokens], 0 on real tokens and a large negative number on padding; and the query's keys and values,
        to the layers' states, FloatArray [rows, tokens, hidden], of which the last may hold fewer tokens.
    """
    graph = _Graph(backbone, plan.inputs)
    states, padding, rows = graph.states, graph.padding, graph.rows
    shared_shape = [1, graph.num_heads, "query_tokens", graph.head_width]
    outputs = [graph.in_rows(states)]
    for layer in range(graph.num_layers):
        keys, values = graph.keys_values(layer, states)
        mask = padding
        if layer >= plan.start:
            shared_keys = graph.input(key_name(layer), shared_shape)
            shared_values = graph.input(value_name(layer), shared_shape)
            mask = graph.shared_mask(
                shared_keys, padding, rows, None if plan.key_bias is None else plan.key_bias[layer]
            )
            keys, values = graph.prepend(shared_keys, keys, rows), graph.prepend(shared_values, values, rows)
        if plan.read_tokens is not None and layer == graph.num_layers - 1:
            read = graph.first_tokens(outputs[-1], plan.read_tokens)
            queries = graph.queries(layer, read, is_filled=False)
            read = graph.finish(layer, read, graph.attend(queries, keys, values, mask))
            outputs.append(graph.split(read, graph.width))
        else:
            context = graph.filled(graph.attend(graph.queries(layer, states), keys, values, mask), states)
            states = graph.finish(layer, states, context)
            outputs.append(graph.in_rows(states))
    return graph.close(outputs, all_layers=plan.all_layers)


class _Graph:
    """Collects nodes and weights; every method that computes returns the name of its result."""

    def __init__(self, backbone: nn.Module, inputs: Mapping[str, Extremes] | None) -> None:
        self._seen = inputs or {}
        self._quantised: dict[str, str] = {}
        self._onnx = require("onnx", extra="onnx")
        self._layers = _layers(backbone)
        config: Any = backbone.config  # Any: a config of transformers, untyped there
        self._activation = _ACTIVATIONS[config.hidden_act]
        self.num_layers, self.width = len(self._layers), config.hidden_size
        self.num_heads, self.head_width = config.num_attention_heads, config.hidden_size // config.num_attention_heads
        self._epsilon = config.layer_norm_eps
        self._nodes: list[Any] = []
        self._weights: list[Any] = []
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []
        self.states = self.input(STATES, [1, "all_tokens", self.width])
        self.padding = self.input(PADDING, ["rows", 1, 1, "tokens"])
        self.rows = self.add("Shape", [self.padding], start=0, end=1)
        self._tokens = self.add("Shape", [self.padding], start=3, end=4)
        self._used = self.add("Mul", [self.rows, self._tokens])

    def input(self, name: str, shape: Sequence[int | str]) -> str:
        self._inputs.append(self._onnx.helper.make_tensor_value_info(name, self._onnx.TensorProto.FLOAT, shape))
        return name

    def output(self, name: str, shape: Sequence[int | str]) -> None:
        self._outputs.append(self._onnx.helper.make_tensor_value_info(name, self._onnx.TensorProto.FLOAT, shape))

    def add(self, kind: str, inputs: Sequence[str], name: str | None = None, **attributes: Any) -> str:
        name = name or f"{kind}_{len(self._nodes)}"
        self._nodes.append(self._onnx.helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, values: Any) -> str:
        name = f"weight_{len(self._weights)}"
        self._weights.append(self._onnx.numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def linear(self, site: str, states: str, module: Any, *companions: Any, scale: float = 1.0) -> str:
        """A linear layer, times `scale`; `site` names its input, `companions` all that read it (none: itself)."""
        weights, bias = _array(module.weight).T * np.float32(scale), _array(module.bias) * np.float32(scale)
        if site not in self._seen:
            right = self.constant(weights)
        else:
            read_by = [_array(each.weight).T for each in companions or (module,)]
            chosen = input_scale(self._seen[site], np.concatenate(read_by, axis=1))
            states = self.quantised_input(states, chosen)
            integers, scales = quantised_weights(weights * chosen.divisor[:, None])
            right = self.add("DequantizeLinear", [self.constant(integers), self.constant(scales)], axis=1)
        return self.add("Add", [self.add("MatMul", [states, right]), self.constant(bias)])

    def quantised_input(self, states: str, chosen: InputScale) -> str:
        """Round an input to 8 bits, once for all layers that read it."""
        if states not in self._quantised:
            step = self.constant(np.array(chosen.scale, dtype=np.float32))
            zero = self.constant(np.array(chosen.zero_point, dtype=np.uint8))
            even = self.add("Mul", [states, self.constant(1 / chosen.divisor)])
            integers = self.add("QuantizeLinear", [even, step, zero])
            self._quantised[states] = self.add("DequantizeLinear", [integers, step, zero])
        return self._quantised[states]

    def integers(self, *values: int) -> str:
        return self.constant(np.array(values, dtype=np.int64))

    def used(self, states: str) -> str:
        """Without the filling at the end."""
        return self.add("Slice", [states, self.integers(0), self._used, self.integers(1)])

    def filled(self, states: str, filling: str) -> str:
        """With a filling again, of any finite numbers."""
        end = self.integers(np.iinfo(np.int64).max)
        return self.add("Concat", [states, self.add("Slice", [filling, self._used, end, self.integers(1)])], axis=1)

    def split(self, states: str, *width: int) -> str:
        """From [1, rows * tokens, hidden] to [rows, tokens, *width]."""
        return self.add("Reshape", [states, self.add("Concat", [self.rows, self.integers(-1, *width)], axis=0)])

    def in_rows(self, states: str) -> str:
        return self.split(self.used(states), self.width)

    def heads(self, states: str, *, is_filled: bool = True) -> str:
        used = self.used(states) if is_filled else states
        return self.add("Transpose", [self.split(used, self.num_heads, self.head_width)], perm=[0, 2, 1, 3])

    def queries(self, layer: int, states: str, *, is_filled: bool = True) -> str:
        # The scale of the scores goes into the weights, once.
        module = self._layers[layer].attention.self
        readers = (module.query, module.key, module.value)
        scale = 1 / math.sqrt(self.head_width)
        queries = self.linear(_site(layer, _STATES), states, module.query, *readers, scale=scale)
        return self.heads(queries, is_filled=is_filled)

    def keys_values(self, layer: int, states: str) -> tuple[str, str]:
        module = self._layers[layer].attention.self
        site, readers = _site(layer, _STATES), (module.query, module.key, module.value)
        keys, values = (self.linear(site, states, reader, *readers) for reader in readers[1:])
        return self.heads(keys), self.heads(values)

    def prepend(self, shared: str, own: str, rows: str) -> str:
        shape = self.add("Concat", [rows, self.constant(np.array([1, 1, 1], dtype=np.int64))], axis=0)
        return self.add("Concat", [self.add("Expand", [shared, shape]), own], axis=2)

    def shared_mask(self, shared: str, padding: str, rows: str, bias: Tensor | None) -> str:
        """What is added to the scores: the bias on the query's tokens, `padding` on a passage's own."""
        length = self.add("Shape", [shared], start=2, end=3)
        ones = self.constant(np.array([1], dtype=np.int64))
        if bias is None:
            heads, values = ones, np.zeros((1, 1, 1, 1), dtype=np.float32)
        else:
            heads, values = self.constant(np.array([self.num_heads], dtype=np.int64)), _array(bias)[None, :, None, None]
        shared_part = self.add("Concat", [rows, heads, ones, length], axis=0)
        own_part = self.add("Concat", [ones, heads, ones, ones], axis=0)
        return self.add(
            "Concat",
            [
                self.add("Expand", [self.constant(values), shared_part]),
                self.add("Expand", [padding, own_part]),
            ],
            axis=3,
        )

    def attend(self, queries: str, keys: str, values: str, mask: str | None) -> str:
        scores = self.add("MatMul", [queries, self.add("Transpose", [keys], perm=[0, 1, 3, 2])])
        if mask is not None:
            scores = self.add("Add", [scores, mask])
        context = self.add("MatMul", [self.add("Softmax", [scores], axis=-1), values])
        joined = self.add("Transpose", [context], perm=[0, 2, 1, 3])
        return self.add("Reshape", [joined, self.integers(1, -1, self.width)])

    def first_tokens(self, states: str, count: int) -> str:
        first = self.add("Slice", [states, self.integers(0), self.integers(count), self.integers(1)])
        return self.add("Reshape", [first, self.integers(1, -1, self.width)])

    def normalise(self, states: str, module: Any) -> str:
        weights = [self.constant(_array(module.weight)), self.constant(_array(module.bias))]
        return self.add("LayerNormalization", [states, *weights], axis=-1, epsilon=self._epsilon)

    def finish(self, layer: int, states: str, context: str) -> str:
        module = self._layers[layer]
        attention = module.attention.output
        attended = self.add("Add", [self.linear(_site(layer, _CONTEXT), context, attention.dense), states])
        attended = self.normalise(attended, attention.LayerNorm)
        kind, attributes = self._activation
        inner = self.add(
            kind, [self.linear(_site(layer, _ATTENDED), attended, module.intermediate.dense)], **attributes
        )
        return self.normalise(
            self.add("Add", [self.linear(_site(layer, _INNER), inner, module.output.dense), attended]),
            module.output.LayerNorm,
        )

    def close(self, layers: Sequence[str], *, all_layers: bool) -> Any:
        for number in range(0 if all_layers else self.num_layers, self.num_layers + 1):
            shape = ["rows", f"tokens_{number}", self.width]
            self.output(self.add("Identity", [layers[number]], name=layer_output(number)), shape)
        helper = self._onnx.helper
        graph = helper.make_graph(self._nodes, "layers", self._inputs, self._outputs, self._weights)
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", _OPSET)],
            ir_version=_IR_VERSION,
            producer_name="gliclass-rerank",
        )
        self._onnx.checker.check_model(model)
        return model


def _site(layer: int, name: str) -> str:
    return f"{layer}.{name}"


def _layers(backbone: nn.Module) -> Any:  # Any: modules of a transformers model, untyped there
    return backbone.encoder.layer  # type: ignore[union-attr]


def _array(tensor: Tensor) -> Any:  # Any: a numpy array
    return tensor.detach().to("cpu").float().numpy()
