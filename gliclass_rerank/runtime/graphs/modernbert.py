"""ModernBERT layers as graphs: rotary positions, local attention in most layers, pre-norm."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn

from gliclass_rerank.model.backbones.modernbert import ModernBertBlocks
from gliclass_rerank.runtime.graphs.layers import ATTENDED, CONTEXT, INNER, LayerWriter, site, unsupported_activation
from gliclass_rerank.runtime.graphs.writer import UNSEEN, GraphWriter, array
from gliclass_rerank.runtime.quantisation import Observer
from gliclass_rerank.runtime.sessions import Array

_NORMED: Final = "normed"
# FloatArray [1, 1, tokens, keys]: 0 within a local layer's window, `UNSEEN` outside.
_REACH: Final = "reach"


class ModernBertLayers(LayerWriter):
    """Graph writer for the layers of `transformers.ModernBertModel`."""

    def __init__(self, graph: GraphWriter, backbone: nn.Module) -> None:
        super().__init__(graph, backbone)
        self.layers: Any = backbone.layers  # Any: modules of transformers, untyped there
        for kind in _kinds(backbone):
            for name in (_cosine(kind), _sine(kind)):
                graph.input(name, [1, 1, "tokens", graph.head_width])
        if _local_layer(backbone) is not None:
            graph.input(_REACH, [1, 1, "tokens", "keys"])
        self._cut: dict[tuple[bool, int | None], str] = {}

    @staticmethod
    def unsupported(encoder_config: Mapping[str, Any]) -> str | None:  # Any: JSON
        """Reason why a backbone's layers cannot be written; None if they can."""
        return unsupported_activation(encoder_config.get("hidden_activation", "gelu"))

    @staticmethod
    def weights(backbone: nn.Module) -> Mapping[str, nn.Module]:
        """All modules but the embeddings."""
        return {"layers": backbone.layers, "final_norm": backbone.final_norm}  # type: ignore[dict-item]

    @staticmethod
    def watched(backbone: nn.Module) -> Mapping[str, Observer]:
        """Observation points of the linear layers' inputs."""
        seen = {}
        for layer, module in enumerate(backbone.layers):  # type: ignore[arg-type]
            # Block execution never calls the fused query-key-value module as a whole.
            seen[site(layer, _NORMED)] = Observer(module.attn_norm, gives=True)
            seen[site(layer, CONTEXT)] = Observer(module.attn.Wo)
            seen[site(layer, ATTENDED)] = Observer(module.mlp.Wi)
            seen[site(layer, INNER)] = Observer(module.mlp.Wo)
        return seen

    @staticmethod
    def position_inputs(backbone: nn.Module, tokens: int, query_tokens: int) -> dict[str, Array]:
        """Rotary cosines and sines of each layer kind, and the mask of local layers."""
        keys = torch.arange(query_tokens + tokens)
        own = keys[query_tokens:]
        rotary: Any = backbone.rotary_emb  # Any: as above
        inputs: dict[str, Array] = {}
        for kind in _kinds(backbone):
            turns = rotary(torch.empty(0), own[None], kind)
            for name, values in zip((_cosine(kind), _sine(kind)), turns, strict=True):
                inputs[name] = array(values[None])
        if (local := _local_layer(backbone)) is not None:
            reach = ModernBertBlocks(backbone).reach[local]
            assert reach is not None, "the layer is local"
            visible = (own[:, None] - keys[None, :]).abs() <= reach
            inputs[_REACH] = array(torch.zeros(visible.shape).masked_fill(~visible, UNSEEN)[None, None])
        return inputs

    def read(self, layer: int, states: str) -> str:
        """Norm before attention; the first layer has none."""
        norm = self.layers[layer].attn_norm
        return states if isinstance(norm, nn.Identity) else self.graph.normalise(states, norm)

    def queries(self, layer: int, read: str, *, first: int | None = None) -> str:
        """Queries with rotary positions."""
        queries = self._projected(layer, read, 0, scale=1 / math.sqrt(self.graph.head_width))
        return self._turned(layer, self.graph.heads(queries, is_packed=first is None), first)

    def keys_values(self, layer: int, read: str) -> tuple[str, str]:
        """Keys with rotary positions, and values."""
        keys, values = (self.graph.heads(self._projected(layer, read, part)) for part in (1, 2))
        return self._turned(layer, keys, None), values

    def mask(self, layer: int, mask: str | None, *, sees_all: bool, first: int | None = None) -> str | None:
        """Additive mask; local layers also mask keys outside their window."""
        if not _is_local(self.layers[layer]):
            return mask
        reach = self._reach(sees_all, first)
        return reach if mask is None else self.graph.add("Add", [mask, reach])

    def finish(self, layer: int, states: str, context: str) -> str:
        """Output projection, residual and gated feed-forward."""
        graph, module = self.graph, self.layers[layer]
        attended = self.linear(layer, CONTEXT, context, module.attn.Wo)
        states = graph.add("Add", [attended, states])
        normed = graph.normalise(states, module.mlp_norm)
        config: Any = self.backbone.config  # Any: as above
        inner, gate = (self._part(site(layer, ATTENDED), normed, module.mlp.Wi, part, of=2) for part in (0, 1))
        gated = graph.add("Mul", [graph.activate(inner, config.hidden_activation), gate])
        finished = self.linear(layer, INNER, gated, module.mlp.Wo)
        return graph.add("Add", [finished, states])

    def close(self, states: str) -> str:
        """Final norm."""
        return self.graph.normalise(states, self.backbone.final_norm)

    def _projected(self, layer: int, read: str, part: int, scale: float = 1.0) -> str:
        return self._part(site(layer, _NORMED), read, self.layers[layer].attn.Wqkv, part, of=3, scale=scale)

    def _part(self, name: str, states: str, module: Any, part: int, *, of: int, scale: float = 1.0) -> str:
        """One of several linear layers that share a matrix."""

        def own(weights: Tensor) -> Tensor:
            return weights.chunk(of)[part]

        bias = None if module.bias is None else own(module.bias)
        return self.graph.linear(name, states, own(module.weight), bias, read_by=[module.weight], scale=scale)

    def _turned(self, layer: int, states: str, first: int | None) -> str:
        graph, kind = self.graph, self.layers[layer].attention_type
        half = graph.integers(graph.head_width // 2)
        low, high = graph.slice(states, graph.integers(0), half, 3), graph.slice(states, half, None, 3)
        across = graph.add("Concat", [graph.add("Neg", [high]), low], axis=3)
        cosine, sine = (self._first(name, first) for name in (_cosine(kind), _sine(kind)))
        return graph.add("Add", [graph.add("Mul", [states, cosine]), graph.add("Mul", [across, sine])])

    def _first(self, positions: str, first: int | None) -> str:
        if first is None:
            return positions
        return self.graph.slice(positions, self.graph.integers(0), self.graph.integers(first), 2)

    def _reach(self, sees_all: bool, first: int | None) -> str:
        if (sees_all, first) not in self._cut:
            reach = self._first(_REACH, first)
            if not sees_all:
                reach = self.graph.slice(reach, self.graph.add("Neg", [self.graph.tokens]), None, 3)
            self._cut[sees_all, first] = reach
        return self._cut[sees_all, first]


def _kinds(backbone: nn.Module) -> list[str]:
    return sorted({module.attention_type for module in backbone.layers})  # type: ignore[union-attr]


def _local_layer(backbone: nn.Module) -> int | None:
    """Number of some layer with local attention; None if all are global."""
    return next((layer for layer, module in enumerate(backbone.layers) if _is_local(module)), None)  # type: ignore[arg-type]


def _is_local(layer: Any) -> bool:  # Any: as above
    local: bool = layer.attention_type == "sliding_attention"
    return local


def _cosine(kind: str) -> str:
    return f"cosine_{kind}"


def _sine(kind: str) -> str:
    return f"sine_{kind}"
