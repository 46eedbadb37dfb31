"""Backbone layers on ONNX Runtime or OpenVINO, behind the same interface as torch's.

Embeddings, pooling and scorers stay in torch, so every head works with every backend at little cost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from gliclass_rerank.errors import BackendError
from gliclass_rerank.model.backbones.interface import LayerRunner, QueryMemory
from gliclass_rerank.model.backbones.registry import block_runner
from gliclass_rerank.model.batch import LayerStates, TokenRows
from gliclass_rerank.model.bucketing import filling
from gliclass_rerank.model.config import AttentionPlan
from gliclass_rerank.runtime.cache_entry import Entry
from gliclass_rerank.runtime.graphs.encoders import (
    LayerPlan,
    key_name,
    known_graph,
    passage_graph,
    query_graph,
    value_name,
    window_graph,
)
from gliclass_rerank.runtime.graphs.registry import layer_writer
from gliclass_rerank.runtime.graphs.writer import PACKED_AT, PADDED_AT, PADDING, STATES, UNSEEN
from gliclass_rerank.runtime.sessions import Array, FloatArray, Precision, Runtime, Session, open_session

_QUERY, _PASSAGE, _CACHED, _WINDOW = "query", "passage", "known", "window"
GRAPHS: Final[Mapping[str, Callable[[nn.Module, LayerPlan], Any]]] = {  # Any: onnx has no types
    _QUERY: query_graph,
    _PASSAGE: passage_graph,
    _CACHED: known_graph,
    _WINDOW: window_graph,
}


def graphs_of(plan: AttentionPlan, layers: LayerPlan) -> tuple[str, ...]:
    """Names of the graphs that a plan needs."""
    if plan == "joint":
        return (_WINDOW,)
    return (_QUERY, _PASSAGE) if layers.cached_layer is None else (_QUERY, _PASSAGE, _CACHED)


class ExportedLayers(LayerRunner):
    """Layer runner over exported graphs, which fix key bias, number of layers and tokens read.

    Args:
        backbone: Exported backbone; its embeddings are used.
        entry: Cache entry with the graphs `NAME.onnx` of one attention plan.
        runtime: Graph runtime.
        precision: Precision of the layers.
        threads: CPU threads per graph.
    """

    def __init__(
        self, backbone: nn.Module, entry: Entry, *, runtime: Runtime, precision: Precision, threads: int
    ) -> None:
        config: Any = backbone.config  # Any: a config of transformers, untyped there
        self._backbone = backbone
        self._blocks = block_runner(config.model_type, backbone)
        self._position_inputs = layer_writer(backbone).position_inputs
        self._is_filled = runtime == "openvino"
        self._entry = entry  # keeps the files, because a session may have to be reopened
        self._sessions: dict[str, Session] = {
            Path(name).stem: open_session(entry.folder / name, runtime, precision, threads)
            for name in sorted(entry.files)
        }

    def encode_query(
        self,
        ids: Tensor,
        *,
        start: int,
        segment: Tensor | None = None,
        all_layers: bool = False,  # noqa: ARG002 - in the graph
    ) -> QueryMemory:
        """Encode a query on its own."""
        outputs = self._sessions[_QUERY].run(self._inputs(self._blocks.embed(ids, segment), None))
        _check_shapes(outputs, *ids.shape)
        num_shared = self._blocks.num_layers - start
        shared = [torch.from_numpy(array) for array in outputs[: 2 * num_shared]]
        return QueryMemory(
            layers=tuple(torch.from_numpy(array) for array in outputs[2 * num_shared :]),
            keys_values=(None,) * start + tuple(zip(shared[::2], shared[1::2], strict=True)),
            num_tokens=ids.shape[1],
            tables=(),
        )

    def encode_candidates(
        self,
        rows: TokenRows,
        memory: QueryMemory,
        *,
        key_bias: Tensor | None = None,  # noqa: ARG002 - in the graph
        segment: Tensor | None = None,
        start: int = 0,
        all_layers: bool = False,  # noqa: ARG002 - likewise
        read_tokens: int | None = None,  # noqa: ARG002 - likewise
        cached: LayerStates | None = None,
    ) -> tuple[Tensor, ...]:
        """Encode candidates, each against itself and the query."""
        if cached is None:
            graph, states = _PASSAGE, self._blocks.embed(rows.ids, segment, start)
        else:  # of the layer at which this graph starts
            graph, states = _CACHED, cached.states.float()
        inputs = self._inputs(states, rows.mask if rows.is_padded else None, memory.num_tokens)
        for layer, shared in enumerate(memory.keys_values):
            if shared is not None:
                inputs[key_name(layer)], inputs[value_name(layer)] = (part.numpy() for part in shared)
        outputs = self._sessions[graph].run(inputs)
        _check_shapes(outputs, *states.shape[:2])
        return tuple(torch.from_numpy(array) for array in outputs)

    def encode_windows(
        self,
        tokens: TokenRows,
        *,
        embeddings: Tensor | None = None,
        all_layers: bool = False,  # noqa: ARG002 - in the graph
    ) -> tuple[Tensor, ...]:
        """Run full attention over padded rows."""
        states = self._blocks.embed(tokens.ids) if embeddings is None else self._blocks.embed_words(embeddings)
        outputs = self._sessions[_WINDOW].run(self._inputs(states, tokens.mask))
        _check_shapes(outputs, *tokens.ids.shape)
        return tuple(torch.from_numpy(array) for array in outputs)

    def _inputs(self, padded: Tensor, token_mask: Tensor | None, query_tokens: int = 0) -> dict[str, Array]:
        """Inputs shared by all graphs, from padded states [rows, tokens, hidden]."""
        rows, tokens, width = padded.shape
        is_real = np.ones((rows, tokens), dtype=bool) if token_mask is None else token_mask.numpy()
        padded_at = np.flatnonzero(is_real)
        packed_at = np.where(is_real, is_real.cumsum().reshape(rows, tokens) - 1, 0)
        states = padded.numpy().reshape(-1, width)[padded_at]
        if self._is_filled and (missing := filling(len(padded_at))):
            states, padded_at = np.pad(states, ((0, missing), (0, 0))), np.pad(padded_at, (0, missing))
        return {
            STATES: states[None],
            PADDING: np.where(is_real, np.float32(0), np.float32(UNSEEN))[:, None, None],
            PACKED_AT: packed_at,
            PADDED_AT: padded_at,
            **self._position_inputs(self._backbone, tokens, query_tokens),
        }


def _check_shapes(outputs: Sequence[FloatArray], rows: int, tokens: int) -> None:
    """Check a graph's output shapes.

    Args:
        outputs: States [rows, tokens, hidden] (the last may have fewer tokens), and keys and values of one row, [1,
            num_heads, tokens, head_dim].
        rows: Rows of the input.
        tokens: Tokens per row, padding included.

    Raises:
        BackendError: A shape differs.
    """
    for number, output in enumerate(outputs):
        found = output.shape[0], output.shape[-2]
        is_shorter = number == len(outputs) - 1 and 0 < found[1] < tokens
        if found != (rows, tokens) and not (is_shorter and found[0] == rows):
            raise BackendError(f"the runtime gave states of {found} rows and tokens for inputs of {(rows, tokens)}")
