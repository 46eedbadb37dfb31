"""Packed forward pass of a backbone: all token-wise work in one matrix product, only attention knows sequences."""

from __future__ import annotations

from torch import Tensor

from gliclass_rerank.model.backbones.packable import PackableRunner
from gliclass_rerank.model.backbones.packed_attention import LayerView, PackedAttention
from gliclass_rerank.model.packed_sequences import PackedSequences


def encode_packed(
    runner: PackableRunner,
    batch: PackedSequences,
    attend: PackedAttention,
    *,
    start: int = 0,
    key_bias: Tensor | None = None,
    segments: Tensor | None = None,
) -> Tensor:
    """Run a backbone over packed sequences.

    Args:
        runner: Layers of the backbone.
        batch: Packed sequences.
        attend: Attention.
        start: First layer in which candidates see their query.
        key_bias: FloatTensor [num_layers, num_heads], added to candidates' scores on query tokens; None for none.
        segments: FloatTensor [num_segments, hidden], added to the word embeddings; None for none.

    Returns:
        Last states of the tokens that are read, FloatTensor [num_rows, hidden].
    """
    segment = None if segments is None else segments.index_select(0, batch.segments)
    states = runner.embed(batch.ids, segment, positions=batch.positions)
    tables = runner.packed_tables(states, batch.positions)
    for number, layer in enumerate(runner.layers):
        rows = batch.read if number == runner.num_layers - 1 else batch.all
        shares = number >= start and batch.num_queries > 0
        bias = key_bias[number] if shares and key_bias is not None else None
        query, key_value = runner.project_packed(layer, states, rows.index, tables)
        context = attend(query, key_value, batch, LayerView(rows, shares, runner.reach[number], bias))
        attending = states if rows.index is None else states.index_select(0, rows.index)
        states = runner.finish(layer, attending, context.flatten(1))
    last: Tensor = runner.final_norm(states)
    return last
