"""Packed forward pass of several queries through a BERT, for training on a CPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from gliclass_rerank.learn.training.batches import Batch
from gliclass_rerank.learn.training.config import Precision
from gliclass_rerank.learn.training.packed_layer import LayerSettings, LayerWeights, run_layer
from gliclass_rerank.learn.training.packing import Packing
from gliclass_rerank.learn.training.precision import ItemOutput, outputs_of
from gliclass_rerank.model.backbones.bert import Bert
from gliclass_rerank.model.backbones.interface import LayerRunner, QueryMemory
from gliclass_rerank.model.batch import BlockBatch, TokenRows
from gliclass_rerank.model.gliclass import GLiClass
from gliclass_rerank.model.head import ScoringHead


def unpackable_reason(model: ScoringHead, *, plan: str | None, dropout: float) -> str | None:
    """Reason why a model cannot be trained packed, in one sentence; None if it can."""
    if not isinstance(model, GLiClass) or not isinstance(model.encoder_model, Bert):
        return "packed training needs a uni-encoder with a BERT backbone"
    if plan != "shared_query":
        return f"packed training needs the plan 'shared_query', got {plan!r}"
    if dropout > 0:
        return f"packed training has no dropout, got {dropout}"
    if model.logit_scale.device.type != "cpu":
        return f"packed training is for CPUs, got the device '{model.logit_scale.device}'"
    if model.config.reads_all_layers:
        return "packed training does not support heads that read inner layers"
    activation = model.encoder_model.config.hidden_act
    return None if activation == "gelu" else f"packed training needs the activation 'gelu', got {activation!r}"


def run_packed(
    model: GLiClass, batches: Sequence[Batch], precision: Precision, *, with_vectors: bool
) -> list[ItemOutput]:
    """Run batches of blocks through the model together, with gradients.

    Args:
        model: Model without an `unpackable_reason`.
        batches: Batches, at least one.
        precision: Precision of the backbone's activations and products; weights and head are float32.
        with_vectors: Return the candidates' projected vectors too.

    Returns:
        Outputs of `run`, batch after batch.
    """
    blocks = [batch.inputs for batch in batches if isinstance(batch.inputs, BlockBatch)]
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    packing = Packing.of(blocks, candidate_start=model.config.candidate_position_start, dtype=dtype)
    states = encode(model, packing, dtype).to(model.logit_scale.dtype)
    # All parts at once: gradients of separate slices would each be as large as the whole.
    sizes = [span.stop - span.start for span in packing.spans]
    parts = iter(torch.split(states[: packing.num_used], sizes))
    found = []
    for batch, (query, groups) in zip(batches, packing.items, strict=True):
        encoded = [next(parts).view(span.num_rows, span.width, -1) for span in (query, *groups)]
        found += outputs_of(model, batch, with_vectors=with_vectors, runner=_Encoded(encoded))
    return found


def encode(model: GLiClass, packing: Packing, dtype: torch.dtype) -> Tensor:
    """Last states of the backbone, FloatTensor [num_tokens, hidden], in the given precision."""
    backbone, config = model.encoder_model, model.config
    assert isinstance(backbone, Bert), "see `unpackable_reason`"
    segment = None if model.segment_embeddings is None else model.segment_embeddings(packing.segments)
    embedded: Tensor = backbone.embeddings(packing.ids[None], segment, positions=packing.positions[None])
    states, biases = embedded[0].to(dtype), model.query_key_bias
    for number, layer in enumerate(backbone.encoder.layer):  # type: ignore[arg-type] # a list of modules
        shares = number >= config.query_attention_start
        settings = LayerSettings(backbone.config.num_attention_heads, backbone.config.layer_norm_eps, shares)
        bias = biases[number] if shares and biases is not None else None
        states = run_layer(states, LayerWeights.of(layer, dtype), bias, packing, settings)
    return states


class _Encoded(LayerRunner):
    """Layer runner over precomputed states: first the query's, then group after group."""

    # Any: a runner's other arguments, which decide nothing any more
    def __init__(self, states: Sequence[Tensor]) -> None:
        self._states: Iterator[Tensor] = iter(states)

    def encode_query(self, ids: Tensor, **_: Any) -> QueryMemory:
        num_tokens = ids.shape[1]
        return QueryMemory((next(self._states)[:, :num_tokens],), (), num_tokens, ())

    def encode_candidates(
        self,
        rows: TokenRows,
        memory: QueryMemory,  # noqa: ARG002
        *,
        read_tokens: int | None = None,
        **_: Any,
    ) -> tuple[Tensor, ...]:
        seq_len = rows.ids.shape[1]
        width = seq_len if read_tokens is None else min(read_tokens, seq_len)
        return (next(self._states)[:, :width],)

    def encode_windows(self, *_: Any, **__: Any) -> tuple[Tensor, ...]:
        raise AssertionError("only blocks can be packed")
