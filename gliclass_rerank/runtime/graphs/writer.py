"""ONNX graph writer with the operations shared by all backbones' layers.

Dynamic axes: `rows` and `tokens` of padded attention, and `all_tokens` of everything else, packed in one row without
padding; filling at its end allows shape bucketing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from torch import Tensor

from gliclass_rerank._imports import require
from gliclass_rerank.runtime.quantisation import InputScale, MinMax, input_scale, quantised_weights

STATES: Final = "states"
PADDING: Final = "padding"
# LongArray [rows, tokens]: packed position of each padded one; arbitrary for padding.
PACKED_AT: Final = "packed_at"
# LongArray [all_tokens]: padded position (of `rows * tokens`) of each packed one; arbitrary for filling.
PADDED_AT: Final = "padded_at"
# Added to masked scores: far below any score, representable in half precision.
UNSEEN: Final = -1e4
# ONNX operators of the activations, by transformers' names.
ACTIVATIONS: Final[Mapping[str, tuple[str, Mapping[str, str]]]] = {
    "gelu": ("Gelu", {}),
    "gelu_new": ("Gelu", {"approximate": "tanh"}),
    "relu": ("Relu", {}),
}
_OPSET: Final = 20
_IR_VERSION: Final = 10
_END: Final = np.iinfo(np.int64).max


def layer_output(number: int) -> str:
    """Name of the states after `number` layers."""
    return f"layer_{number}"


def array(tensor: Tensor) -> Any:  # Any: a numpy array of whatever shape
    """Convert a weight to a float32 array."""
    return tensor.detach().to("cpu").float().numpy()


class GraphWriter:
    """Collector of nodes and weights; every computing method returns the name of its result.

    Args:
        width: Size of a token's state.
        num_heads: Attention heads per layer.
        seen: Observed ranges of the activations in int8, by name; None for none.
        weight_limit: Largest weight in int8.
    """

    def __init__(self, width: int, num_heads: int, seen: Mapping[str, MinMax] | None, *, weight_limit: int) -> None:
        self.width, self.num_heads, self.head_width = width, num_heads, width // num_heads
        self._seen = seen or {}
        self._weight_limit = weight_limit
        self._quantised: dict[str, str] = {}
        self._onnx = require("onnx", extra="onnx")
        self._nodes: list[Any] = []  # Any: onnx has no types
        self._weights: list[Any] = []
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []
        self.states = self.input(STATES, [1, "all_tokens", width])
        self.padding = self.input(PADDING, ["rows", 1, 1, "tokens"])
        self.rows = self.add("Shape", [self.padding], start=0, end=1)
        self.tokens = self.add("Shape", [self.padding], start=3, end=4)
        self._packed_at = self.input(PACKED_AT, ["rows", "tokens"], "INT64")
        self._padded_at = self.input(PADDED_AT, ["all_tokens"], "INT64")

    def input(self, name: str, shape: Sequence[int | str], kind: str = "FLOAT") -> str:
        """Declare an input; `kind` is an ONNX type name."""
        element = getattr(self._onnx.TensorProto, kind)
        self._inputs.append(self._onnx.helper.make_tensor_value_info(name, element, shape))
        return name

    def output(self, name: str, shape: Sequence[int | str]) -> None:
        """Declare an output."""
        self._outputs.append(self._onnx.helper.make_tensor_value_info(name, self._onnx.TensorProto.FLOAT, shape))

    def add(
        self, kind: str, inputs: Sequence[str], name: str | None = None, **attributes: Any
    ) -> str:  # Any: see above
        """Add a node."""
        name = name or f"{kind}_{len(self._nodes)}"
        self._nodes.append(self._onnx.helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, values: Any) -> str:  # Any: a numpy array
        """Add a weight."""
        name = f"weight_{len(self._weights)}"
        self._weights.append(self._onnx.numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def integers(self, *values: int) -> str:
        """Add a list of integers."""
        return self.constant(np.array(values, dtype=np.int64))

    def model(self) -> Any:  # Any: onnx has no types
        """Build and check the ONNX model."""
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

    def linear(
        self,
        site: str,
        states: str,
        weight: Tensor,
        bias: Tensor | None,
        *,
        read_by: Sequence[Tensor] = (),
        scale: float = 1.0,
    ) -> str:
        """Add a linear layer.

        Args:
            site: Activation name of the input.
            states: Input.
            weight: FloatTensor [num_outputs, num_inputs].
            bias: FloatTensor [num_outputs]; None for none.
            read_by: Weights of all layers that read the input; empty for this one alone.
            scale: Factor of the outputs.

        Returns:
            Name of the outputs.
        """
        weights = array(weight).T * np.float32(scale)
        if site not in self._seen:
            right = self.constant(weights)
        else:
            chosen = input_scale(
                self._seen[site], np.concatenate([array(each).T for each in read_by or (weight,)], axis=1)
            )
            states = self._quantised_input(states, chosen)
            integers, scales = quantised_weights(weights * chosen.divisor[:, None], self._weight_limit)
            right = self.add("DequantizeLinear", [self.constant(integers), self.constant(scales)], axis=1)
        product = self.add("MatMul", [states, right])
        return product if bias is None else self.add("Add", [product, self.constant(array(bias) * np.float32(scale))])

    def _quantised_input(self, states: str, chosen: InputScale) -> str:
        """Quantise an input to 8 bits, once for all layers that read it."""
        if states not in self._quantised:
            step = self.constant(np.array(chosen.scale, dtype=np.float32))
            zero = self.constant(np.array(chosen.zero_point, dtype=np.uint8))
            even = self.add("Mul", [states, self.constant(1 / chosen.divisor)])
            integers = self.add("QuantizeLinear", [even, step, zero])
            self._quantised[states] = self.add("DequantizeLinear", [integers, step, zero])
        return self._quantised[states]

    def normalise(self, states: str, norm: Any) -> str:  # Any: a LayerNorm of torch, its bias optional
        """Add a layer norm."""
        weights = [self.constant(array(each)) for each in (norm.weight, norm.bias) if each is not None]
        return self.add("LayerNormalization", [states, *weights], axis=-1, epsilon=norm.eps)

    def activate(self, states: str, activation: str) -> str:
        """Add one of `ACTIVATIONS`."""
        kind, attributes = ACTIVATIONS[activation]
        return self.add(kind, [states], **attributes)

    def slice(self, states: str, start: str, end: str | None, axis: int) -> str:
        """Slice `[start, end)` along an axis; both are lists of one integer, `end` may be None."""
        return self.add("Slice", [states, start, end or self.integers(_END), self.integers(axis)])

    def packed(self, states: str) -> str:
        """Pack [1, rows * tokens, hidden] to [1, all_tokens, hidden]."""
        return self.add("Gather", [states, self._padded_at], axis=1)

    def padded(self, states: str) -> str:
        """Pad [1, all_tokens, hidden] to [rows, tokens, hidden]; padding is finite."""
        return self.split(self.add("Gather", [states, self._packed_at], axis=1), self.width)

    def split(self, states: str, *width: int) -> str:
        """Split concatenated rows of equal length to [rows, tokens, *width]."""
        return self.add("Reshape", [states, self.add("Concat", [self.rows, self.integers(-1, *width)], axis=0)])

    def heads(self, states: str, *, is_packed: bool = True) -> str:
        """Split [1, all_tokens, hidden], or concatenated rows, to [rows, num_heads, tokens, head_width]."""
        if is_packed:
            states = self.add("Gather", [states, self._packed_at], axis=1)
        return self.add("Transpose", [self.split(states, self.num_heads, self.head_width)], perm=[0, 2, 1, 3])

    def first_tokens(self, states: str, count: int) -> str:
        """Concatenate the first tokens of each row of [rows, tokens, hidden]."""
        first = self.slice(states, self.integers(0), self.integers(count), 1)
        return self.add("Reshape", [first, self.integers(1, -1, self.width)])

    def prepend(self, shared: str, own: str) -> str:
        """Prepend the keys or values of one shared row to those of each row."""
        times = self.add("Concat", [self.rows, self.integers(1, 1, 1)], axis=0)
        # `Expand` is equivalent, but OpenVINO multiplies by ones then, in float32.
        return self.add("Concat", [self.add("Tile", [shared, times]), own], axis=2)

    def shared_mask(self, shared: str, bias: Tensor | None) -> str:
        """Additive mask: bias on the query's tokens, padding on a passage's own."""
        length = self.add("Shape", [shared], start=2, end=3)
        ones = self.integers(1)
        if bias is None:
            heads, values = ones, np.zeros((1, 1, 1, 1), dtype=np.float32)
        else:
            heads, values = self.integers(self.num_heads), array(bias)[None, :, None, None]
        shared_part = self.add("Concat", [self.rows, heads, ones, length], axis=0)
        own_part = self.add("Concat", [ones, heads, ones, ones], axis=0)
        return self.add(
            "Concat",
            [
                self.add("Expand", [self.constant(values), shared_part]),
                self.add("Expand", [self.padding, own_part]),
            ],
            axis=3,
        )

    def across(self, left: str, right: str) -> str:
        """Products of all vector pairs: [..., a, width] and [..., b, width] to [..., a, b]."""
        return self.add("MatMul", [left, self.add("Transpose", [right], perm=[0, 1, 3, 2])])

    def context(self, scores: str, values: str, mask: str | None) -> str:
        """Attention output, [1, rows * tokens, hidden]."""
        if mask is not None:
            scores = self.add("Add", [scores, mask])
        context = self.add("MatMul", [self.add("Softmax", [scores], axis=-1), values])
        joined = self.add("Transpose", [context], perm=[0, 2, 1, 3])
        return self.add("Reshape", [joined, self.integers(1, -1, self.width)])
