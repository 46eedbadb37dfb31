"""DeBERTa-v2/v3's layers as graphs: BERT's, with attention scores that depend on distances besides.

In torch a pair's score is looked up by the bucket of its distance, which takes an index for each row, head and pair.
Here the position tables are put in the order of distances instead, so that what a token needs lies one place earlier
than what the token before it needs: slices and reshapes bring it where it belongs.
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

# LongArray [2 * tokens + query_tokens + 1]: row of the position tables for each distance from `-tokens` on.
_DISTANCES: Final = "distances"
_BEFORE_FIRST: Final = np.iinfo(np.int64).min


class DebertaLayers(BertLayers):
    """Writes the layers of `transformers.DebertaV2Model`."""

    def __init__(self, graph: GraphWriter, backbone: nn.Module) -> None:
        super().__init__(graph, backbone)
        self._tables = DebertaBlocks(backbone).no_query.tables
        if _has_distances(backbone):
            graph.input(_DISTANCES, ["distances"], "INT64")

    @staticmethod
    def unsupported(encoder_config: Mapping[str, Any]) -> str | None:  # Any: JSON
        """Why the layers of such a backbone cannot be written."""
        if has_convolution(encoder_config):
            return "DeBERTa's convolution layer cannot be exported"
        return BertLayers.unsupported(encoder_config)

    @staticmethod
    def watched(backbone: nn.Module) -> Mapping[str, Observer]:
        """Where what goes into each linear layer can be seen."""
        return watched_layers(backbone, lambda attention: attention.value_proj)

    @staticmethod
    def position_inputs(backbone: nn.Module, tokens: int, query_tokens: int) -> dict[str, Array]:
        """Rows of the position tables by distance."""
        if not _has_distances(backbone):
            return {}
        distances = torch.arange(-tokens, query_tokens + tokens + 1)
        return {_DISTANCES: table_index(_attention(backbone), distances).numpy()}

    def projections(self, layer: int) -> tuple[Any, Any, Any]:
        """The linear layers of queries, keys and values."""
        attention = self.layers[layer].attention.self
        return attention.query_proj, attention.key_proj, attention.value_proj

    def score_scale(self, layer: int) -> float:
        """What scores are multiplied with."""
        return 1 / score_divisor(self.layers[layer].attention.self)

    def attend(self, layer: int, queries: str, keys: str, values: str, mask: str | None) -> str:
        """Disentangled attention."""
        graph = self.graph
        scores = graph.across(queries, keys)
        content_to_position, position_to_content = self._tables[layer] or (None, None)
        num_queries, num_keys = (graph.add("Shape", [each], start=2, end=3) for each in (queries, keys))
        both = graph.add("Add", [num_queries, num_keys])
        if content_to_position is not None and content_to_position.numel():
            # From the largest distance, of the last query and the first key, to one below the smallest.
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
            # From the smallest distance to one above the largest; here the queries' scale is missing.
            rising = graph.slice(_DISTANCES, graph.integers(1), graph.add("Add", [both, graph.integers(1)]), 0)
            turned = self._by_distance(keys, position_to_content * self.score_scale(layer), rising, num_queries)
            scores = graph.add("Add", [scores, graph.add("Transpose", [turned], perm=[0, 1, 3, 2])])
        return graph.context(scores, values, mask)

    def _by_distance(self, vectors: str, table: Tensor, distances: str, count: str) -> str:
        """Products of vectors with what a table holds for their distances.

        Args:
            vectors: [rows, num_heads, a, head_width].
            table: FloatTensor [num_heads, num_distances, head_width].
            distances: LongArray [a + b]. Rows of the table, the first for the last vector and the first of the others.
            count: b, how many others there are.

        Returns:
            [rows, num_heads, a, b]: on row i those with `a - 1 - i` to `a - 1 - i + b` of `distances`.
        """
        graph = self.graph
        ordered = graph.add("Gather", [graph.constant(array(table)[None]), distances], axis=2)
        products = graph.across(vectors, ordered)
        # Row i begins `a - 1 - i` places in. Cut anew into rows shorter by one, all begin at the same place.
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
