"""BERT layers as graphs: positions are in the embeddings; post-norm."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

from torch import nn

from gliclass_rerank.runtime.graphs.layers import ATTENDED, CONTEXT, INNER, LayerWriter, site, unsupported_activation
from gliclass_rerank.runtime.graphs.writer import GraphWriter
from gliclass_rerank.runtime.quantisation import Observer

_STATES: Final = "states"


class BertLayers(LayerWriter):
    """Graph writer for the layers of a `Bert`."""

    def __init__(self, graph: GraphWriter, backbone: nn.Module) -> None:
        super().__init__(graph, backbone)
        self.layers: Any = _layers(backbone)

    @staticmethod
    def unsupported(encoder_config: Mapping[str, Any]) -> str | None:  # Any: JSON
        """Reason why a backbone's layers cannot be written; None if they can."""
        return unsupported_activation(encoder_config.get("hidden_act", "gelu"))

    @staticmethod
    def weights(backbone: nn.Module) -> Mapping[str, nn.Module]:
        """All modules but the embeddings."""
        return {"encoder": backbone.encoder}  # type: ignore[dict-item]

    @staticmethod
    def watched(backbone: nn.Module) -> Mapping[str, Observer]:
        """Observation points of the linear layers' inputs."""
        return watched_layers(backbone, lambda attention: attention.value)

    def projections(self, layer: int) -> tuple[Any, Any, Any]:
        """Query, key and value projections."""
        attention = self.layers[layer].attention.self
        return attention.query, attention.key, attention.value

    def score_scale(self, layer: int) -> float:  # noqa: ARG002 - for layers that add up several scores
        """Scale of the attention scores."""
        return 1 / math.sqrt(self.graph.head_width)

    def queries(self, layer: int, read: str, *, first: int | None = None) -> str:
        """Queries of a layer; the score scale is folded into the weights."""
        query, *_ = projections = self.projections(layer)
        queries = self.graph.linear(
            site(layer, _STATES),
            read,
            query.weight,
            query.bias,
            read_by=[each.weight for each in projections],
            scale=self.score_scale(layer),
        )
        return self.graph.heads(queries, is_packed=first is None)

    def keys_values(self, layer: int, read: str) -> tuple[str, str]:
        """Keys and values of a layer."""
        projections = self.projections(layer)
        keys, values = (
            self.graph.linear(
                site(layer, _STATES), read, each.weight, each.bias, read_by=[other.weight for other in projections]
            )
            for each in projections[1:]
        )
        return self.graph.heads(keys), self.graph.heads(values)

    def finish(self, layer: int, states: str, context: str) -> str:
        """Output projection, residual and feed-forward."""
        graph, module = self.graph, self.layers[layer]
        output = module.attention.output
        attended = self.linear(layer, CONTEXT, context, output.dense)
        attended = graph.normalise(graph.add("Add", [attended, states]), output.LayerNorm)
        inner = self.linear(layer, ATTENDED, attended, module.intermediate.dense)
        config: Any = self.backbone.config  # Any: a config of transformers, untyped there
        inner = graph.activate(inner, config.hidden_act)
        finished = self.linear(layer, INNER, inner, module.output.dense)
        return graph.normalise(graph.add("Add", [finished, attended]), module.output.LayerNorm)


def watched_layers(backbone: nn.Module, values: Callable[[Any], nn.Module]) -> Mapping[str, Observer]:
    """Observation points of the linear layers of BERT-like backbones.

    Attention output is a weighted mean of values, so the values' range bounds it for any text. Its own range on the
    calibration texts does not: attention concentrated on few tokens exceeds it.

    Args:
        backbone: Backbone.
        values: Function from an attention module to its value projection, which reads the layer's whole input and
            nothing else.

    Returns:
        Observation points by activation name.
    """
    seen = {}
    for layer, module in enumerate(_layers(backbone)):
        made = values(module.attention.self)
        seen[site(layer, _STATES)] = Observer(made)
        seen[site(layer, CONTEXT)] = Observer(made, gives=True)
        seen[site(layer, ATTENDED)] = Observer(module.intermediate.dense)
        seen[site(layer, INNER)] = Observer(module.output.dense)
    return seen


def _layers(backbone: nn.Module) -> Any:  # Any: modules of transformers, untyped there
    return backbone.encoder.layer  # type: ignore[union-attr]
