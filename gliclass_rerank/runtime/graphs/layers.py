"""What a backbone's type must say about its layers, so that graphs can be made of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Final

from torch import nn

from gliclass_rerank.errors import listed
from gliclass_rerank.runtime.graphs.writer import ACTIVATIONS, GraphWriter
from gliclass_rerank.runtime.quantisation import Observer
from gliclass_rerank.runtime.sessions import Array

# What goes into a layer's linear layers, beside what queries, keys and values are made from.
CONTEXT: Final = "context"
ATTENDED: Final = "attended"
INNER: Final = "inner"


class LayerWriter(ABC):
    """Writes the layers of one type of backbone into a graph.

    Args:
        graph: Where to; the inputs that hold positions are declared there at once.
        backbone: A backbone made by `build_backbone`.
    """

    def __init__(self, graph: GraphWriter, backbone: nn.Module) -> None:
        self.graph = graph
        self.backbone = backbone

    @staticmethod
    @abstractmethod
    def unsupported(encoder_config: Mapping[str, Any]) -> str | None:  # Any: JSON
        """Why the layers of such a backbone cannot be written, in one sentence, or None if they can."""

    @staticmethod
    @abstractmethod
    def weights(backbone: nn.Module) -> Mapping[str, nn.Module]:
        """The modules whose weights the graphs are made from, by name."""

    @staticmethod
    @abstractmethod
    def watched(backbone: nn.Module) -> Mapping[str, Observer]:
        """Where what goes into each linear layer can be seen, by site."""

    @staticmethod
    def position_inputs(backbone: nn.Module, tokens: int, query_tokens: int) -> dict[str, Array]:  # noqa: ARG004
        """Inputs that depend on positions alone.

        Computed in torch, by the code that torch runs: another runtime's logarithm or cosine may differ in the last
        bit, on which the bucket of a distance depends, and in half precision it could not count to 300.

        Args:
            backbone: The backbone.
            tokens: Tokens of a row.
            query_tokens: Tokens of the query that rows follow; 0 for rows that follow none.

        Returns:
            Array by name of the input.
        """
        return {}

    def read(self, layer: int, states: str) -> str:  # noqa: ARG002
        """What queries, keys and values of a layer are made from."""
        return states

    @abstractmethod
    def queries(self, layer: int, read: str, *, first: int | None = None) -> str:
        """Queries of a layer, [rows, num_heads, tokens, head_width], times what scores are multiplied with.

        Args:
            layer: The layer.
            read: What `read` gave.
            first: How many of each row's first tokens `read` holds; None for all, packed.

        Returns:
            The queries.
        """

    @abstractmethod
    def keys_values(self, layer: int, read: str) -> tuple[str, str]:
        """Keys and values of a layer, of the same shape."""

    def mask(self, layer: int, mask: str | None, *, sees_all: bool, first: int | None = None) -> str | None:  # noqa: ARG002
        """What is added to a layer's scores.

        Args:
            layer: The layer.
            mask: What is added on all layers; None for nothing.
            sees_all: Whether the keys begin where positions do, with the query's if there is one; else with the row's.
            first: As for `queries`.

        Returns:
            The mask.
        """
        return mask

    def attend(self, layer: int, queries: str, keys: str, values: str, mask: str | None) -> str:  # noqa: ARG002
        """Attention output, [1, rows * tokens, hidden], padding included."""
        return self.graph.context(self.graph.across(queries, keys), values, mask)

    def linear(self, layer: int, name: str, states: str, module: Any) -> str:  # Any: torch's, its bias optional
        """A linear layer that alone reads its input, whose site has this name."""
        return self.graph.linear(site(layer, name), states, module.weight, module.bias)

    @abstractmethod
    def finish(self, layer: int, states: str, context: str) -> str:
        """From attention output to the layer's output."""

    def close(self, states: str) -> str:
        """What the backbone does after its last layer, to [rows, tokens, hidden]."""
        return states


def unsupported_activation(name: str) -> str | None:
    """Why an activation cannot be written, in one sentence, or None if it can."""
    if name in ACTIVATIONS:
        return None
    return f"only the activations {listed(ACTIVATIONS)} can be exported, this backbone has {name!r}"


def site(layer: int, name: str) -> str:
    """Name of what goes into linear layers."""
    return f"{layer}.{name}"


def float_activations(backbone: nn.Module) -> frozenset[str]:
    """The sites that stay in float where the others compute with 8-bit integers.

    In the lower half of the layers what the second feed-forward matrix reads becomes far larger than any text shows
    that the integers are fitted to. Of the bundled models' error in int8 that makes three tenths and more than a half.

    Args:
        backbone: A backbone made by `build_backbone`.

    Returns:
        Their names.
    """
    return frozenset(site(layer, INNER) for layer in range(num_layers(backbone) // 2))


def num_layers(backbone: nn.Module) -> int:
    """How many transformer layers a backbone has."""
    config: Any = backbone.config  # Any: a config of transformers, untyped there
    count: int = config.num_hidden_layers
    return count
