"""DeBERTa-v2/v3 layers as graphs: BERT's, plus distance-dependent attention scores.

Torch looks a pair's score up by distance bucket, with an index per row, head and pair. Here position tables are
ordered by distance, so each token's part starts one place before the previous token's: slices and reshapes align them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from gliclass_rerank.model.backbones.deberta import DebertaBlocks, has_convolution, score_divisor, table_index
from gliclass_rerank.runtime.graphs.bert import BertLayers, watched_layers
from gliclass_rerank.runtime.graphs.writer import GraphWriter, array
from gliclass_rerank.runtime.quantisation import Observer
from gliclass_rerank.runtime.sessions import Array

# LongArray [2 * tokens + query_tokens + 1]: position table row for each distance from `-tokens` on.
_DISTANCES: Final = "distances"
_BEFORE_FIRST: Final = np.iinfo(np.int64).min


class DebertaLayers(BertLayers):
    """Graph writer for the layers of `transformers.DebertaV2Model`."""

    def __init__(self, graph: GraphWriter, backbone: nn.Module) -> None:
        super().__init__(graph, backbone)
        self._tables = DebertaBlocks(backbone).no_query.tables
        if _has_distances(backbone):
            graph.input(_DISTANCES, ["distances"], "INT64")

    @staticmethod
    def unsupported(encoder_config: Mapping[str, Any]) -> str | None:  # Any: JSON
        """Reason why a backbone's layers cannot be written; None if they can."""
        if has_convolution(encoder_config):
            return "DeBERTa's convolution layer cannot be exported"
        return BertLayers.unsupported(encoder_config)

    @staticmethod
    def watched(backbone: nn.Module) -> Mapping[str, Observer]:
        """Observation points of the linear layers' inputs."""
        return watched_layers(backbone, lambda attention: attention.value_proj)

    @staticmethod
    def position_inputs(backbone: nn.Module, tokens: int, query_tokens: int) -> dict[str, Array]:
        """Position table rows by distance."""
        if not _has_distances(backbone):
            return {}
        distances = torch.arange(-tokens, query_tokens + tokens + 1)
        return {_DISTANCES: table_index(_attention(backbone), distances).numpy()}

    def projections(self, layer: int) -> tuple[Any, Any, Any]:
        """Query, key and value projections."""
        attention = self.layers[layer].attention.self
        return attention.query_proj, attention.key_proj, attention.value_proj

    def score_scale(self, layer: int) -> float:
        """Scale of the attention scores."""
        return 1 / score_divisor(self.layers[layer].attention.self)

    def attend(self, layer: int, queries: str, keys: str, values: str, mask: str | None) -> str:
        """Disentangled attention."""
        graph = self.graph
        scores = graph.across(queries, keys)
        content_to_position, position_to_content = self._tables[layer] or (None, None)
        num_queries, num_keys = (graph.add("Shape", [each], start=2, end=3) for each in (queries, keys))
        both = graph.add("Add", [num_queries, num_keys])
        if content_to_position is not None and content_to_position.numel():
            # From the largest distance (last query, first key) to one below the smallest.
            falling = graph.add(
                "Slice",
                [
                    _DISTANCES,
                    graph.add("Sub", [both, graph.integers(1)]),
                    graph.integers(_BEFORE_FIRST),
                    graph.integers(0),
                    graph.integers(-1),
                ],
            )
            scores = graph.add("Add", [scores, self._by_distance(queries, content_to_position, falling, num_keys)])
        if position_to_content is not None and position_to_content.numel():
            # From the smallest distance to one above the largest; this part lacks the queries' scale.
            rising = graph.slice(_DISTANCES, graph.integers(1), graph.add("Add", [both, graph.integers(1)]), 0)
            turned = self._by_distance(keys, position_to_content * self.score_scale(layer), rising, num_queries)
            scores = graph.add("Add", [scores, graph.add("Transpose", [turned], perm=[0, 1, 3, 2])])
        return graph.context(scores, values, mask)

    def _by_distance(self, vectors: str, table: Tensor, distances: str, count: str) -> str:
        """Products of vectors with the table rows of their distances.

        Args:
            vectors: [rows, num_heads, a, head_width].
            table: FloatTensor [num_heads, num_distances, head_width].
            distances: LongArray [a + b]. Table rows, the first for the last vector and the first of the other side.
            count: b, the size of the other side.

        Returns:
            [rows, num_heads, a, b]: row i has `distances[a - 1 - i : a - 1 - i + b]`.
        """
        graph = self.graph
        ordered = graph.add("Gather", [graph.constant(array(table)[None]), distances], axis=2)
        products = graph.across(vectors, ordered)
        # Row i starts at `a - 1 - i`. Reshaped into rows one shorter, all start at the same place.
        length = graph.add("Shape", [vectors], start=2, end=3)
        whole = graph.add("Reshape", [products, graph.integers(0, 0, -1)])
        shifted = graph.slice(whole, graph.add("Sub", [length, graph.integers(1)]), graph.integers(-1), 2)
        shape = graph.add("Concat", [graph.integers(0, 0), length, graph.integers(-1)], axis=0)
        return graph.slice(graph.add("Reshape", [shifted, shape]), graph.integers(0), count, 3)


def _has_distances(backbone: nn.Module) -> bool:
    attention = _attention(backbone)
    return attention.relative_attention and bool({"c2p", "p2c"} & set(attention.pos_att_type))


def _attention(backbone: nn.Module) -> Any:  # Any: modules of transformers, untyped there
    return backbone.encoder.layer[0].attention.self  # type: ignore[union-attr, index]
