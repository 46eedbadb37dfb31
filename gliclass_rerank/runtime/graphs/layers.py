"""Interface for writing a backbone's layers as graphs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Final

from torch import nn

from gliclass_rerank.errors import listed
from gliclass_rerank.runtime.graphs.writer import ACTIVATIONS, GraphWriter
from gliclass_rerank.runtime.quantisation import Observer
from gliclass_rerank.runtime.sessions import Array

# Activations of a layer beside the input of its query, key and value projections.
CONTEXT: Final = "context"
ATTENDED: Final = "attended"
INNER: Final = "inner"


class LayerWriter(ABC):
    """Graph writer for the layers of one type of backbone.

    Args:
        graph: Graph under construction; position inputs are declared at once.
        backbone: Backbone made by `build_backbone`.
    """

    def __init__(self, graph: GraphWriter, backbone: nn.Module) -> None:
        self.graph = graph
        self.backbone = backbone

    @staticmethod
    @abstractmethod
    def unsupported(encoder_config: Mapping[str, Any]) -> str | None:  # Any: JSON
        """Reason why a backbone's layers cannot be written, in one sentence; None if they can."""

    @staticmethod
    @abstractmethod
    def weights(backbone: nn.Module) -> Mapping[str, nn.Module]:
        """Modules whose weights enter the graphs, by name."""

    @staticmethod
    @abstractmethod
    def watched(backbone: nn.Module) -> Mapping[str, Observer]:
        """Observation points of the linear layers' inputs, by activation name."""

    @staticmethod
    def position_inputs(backbone: nn.Module, tokens: int, query_tokens: int) -> dict[str, Array]:  # noqa: ARG004
        """Graph inputs that depend on positions alone.

        Computed by torch: the last bit of another runtime's logarithm or cosine can change a distance bucket, and half
        precision cannot count to 300.

        Args:
            backbone: Backbone.
            tokens: Tokens per row.
            query_tokens: Tokens of the query before the rows; 0 for none.

        Returns:
            Array by input name.
        """
        return {}

    def read(self, layer: int, states: str) -> str:  # noqa: ARG002
        """Input of the query, key and value projections."""
        return states

    @abstractmethod
    def queries(self, layer: int, read: str, *, first: int | None = None) -> str:
        """Queries of a layer, [rows, num_heads, tokens, head_width], with the score scale applied.

        Args:
            layer: Layer number.
            read: Result of `read`.
            first: Leading tokens per row in `read`; None for all, packed.

        Returns:
            Name of the queries.
        """

    @abstractmethod
    def keys_values(self, layer: int, read: str) -> tuple[str, str]:
        """Keys and values of a layer, of the same shape."""

    def mask(self, layer: int, mask: str | None, *, sees_all: bool, first: int | None = None) -> str | None:  # noqa: ARG002
        """Additive attention mask of a layer.

        Args:
            layer: Layer number.
            mask: Mask of all layers; None for none.
            sees_all: Keys start at position 0, with the query's if any; else at the row's start.
            first: Leading tokens per row; None for all.

        Returns:
            Name of the mask.
        """
        return mask

    def attend(self, layer: int, queries: str, keys: str, values: str, mask: str | None) -> str:  # noqa: ARG002
        """Attention output, [1, rows * tokens, hidden], padding included."""
        return self.graph.context(self.graph.across(queries, keys), values, mask)

    def linear(self, layer: int, name: str, states: str, module: Any) -> str:  # Any: torch's, its bias optional
        """Linear layer with an input of its own, named by its activation."""
        return self.graph.linear(site(layer, name), states, module.weight, module.bias)

    @abstractmethod
    def finish(self, layer: int, states: str, context: str) -> str:
        """Layer output from attention output."""

    def close(self, states: str) -> str:
        """Final step of the backbone after its last layer, to [rows, tokens, hidden]."""
        return states


def unsupported_activation(name: str) -> str | None:
    """Reason why an activation cannot be written, in one sentence; None if it can."""
    if name in ACTIVATIONS:
        return None
    return f"only the activations {listed(ACTIVATIONS)} can be exported, this backbone has {name!r}"


def site(layer: int, name: str) -> str:
    """Name of an activation."""
    return f"{layer}.{name}"


def float_activations(backbone: nn.Module) -> frozenset[str]:
    """Names of the activations that stay in float under int8.

    In the lower half of the layers, inputs of the second feed-forward matrix far exceed the calibrated range on some
    texts. They cause 0.3 to over 0.5 of the bundled models' int8 error.
    """
    return frozenset(site(layer, INNER) for layer in range(num_layers(backbone) // 2))


def num_layers(backbone: nn.Module) -> int:
    """Number of transformer layers."""
    config: Any = backbone.config  # Any: a config of transformers, untyped there
    count: int = config.num_hidden_layers
    return count
