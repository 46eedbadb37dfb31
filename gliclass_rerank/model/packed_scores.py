"""Scores of packed batches: backbone, pooling and head of a uni-encoder, without synchronisation with the device."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from gliclass_rerank.model.backbones.packable import packable
from gliclass_rerank.model.backbones.packed import encode_packed
from gliclass_rerank.model.backbones.packed_attention import PackedAttention
from gliclass_rerank.model.gliclass import GLiClass
from gliclass_rerank.model.packing import PackedBlocks, PackedWindows


def packed_block_logits(model: GLiClass, batch: PackedBlocks, attend: PackedAttention) -> Tensor:
    """Score the candidates of several queries.

    Args:
        model: Network.
        batch: Packed queries and candidates.
        attend: Attention.

    Returns:
        FloatTensor [num_candidates], query by query.
    """
    config = model.config
    encoded = encode_packed(
        packable(model.blocks),
        batch.sequences,
        attend,
        start=config.query_attention_start,
        key_bias=model.query_key_bias,
        segments=None if model.segment_embeddings is None else model.segment_embeddings.weight,
    )
    states = encoded.to(model.logit_scale.dtype)
    query, mask = _padded(states, batch.query_rows), _mask(batch.query_lengths, batch.query_rows.shape[1])
    text = query if model.lstm is None else model.lstm(query, mask)
    text = model.project(model.text_projector, model.pool(text, mask))
    # Each candidate as a set of one, so that no head depends on companions.
    candidates = model.project(model.classes_projector, _candidates(states, batch, config.class_token_pooling))[:, None]
    logits = model.score(
        text.index_select(0, batch.query_of),
        candidates,
        torch.ones(candidates.shape[:2], dtype=torch.bool, device=candidates.device),
        mask.index_select(0, batch.query_of),
    )[:, 0]
    if model.token_interaction is not None:
        logits = logits + model.token_interaction.of_packed(states, query, mask, batch)
    return logits


def packed_window_logits(model: GLiClass, batch: PackedWindows, attend: PackedAttention) -> Tensor:
    """Score the candidates of windows.

    Args:
        model: Network.
        batch: Packed windows.
        attend: Attention.

    Returns:
        FloatTensor [num_windows, max_passages].
    """
    segments = None if model.segment_embeddings is None else model.segment_embeddings.weight
    encoded = encode_packed(packable(model.blocks), batch.sequences, attend, segments=segments)
    states = _padded(encoded, batch.token_rows).to(model.logit_scale.dtype)
    return model.score_states(
        states,
        _mask(batch.lengths, states.shape[1]),
        batch.markers.long(),
        _mask(batch.num_markers, batch.markers.shape[1]),
        batch.text_start.long(),
    )


def _padded(states: Tensor, rows: Tensor) -> Tensor:
    """States of rows, IntTensor [num_sequences, longest]: [num_sequences, longest, hidden]."""
    return states.index_select(0, rows.flatten()).view(*rows.shape, -1)


def _mask(lengths: Tensor, longest: int) -> Tensor:
    """BoolTensor [num_sequences, longest], True up to each length."""
    return torch.arange(longest, device=lengths.device) < lengths[:, None]


def _candidates(states: Tensor, batch: PackedBlocks, pooling: str) -> Tensor:
    """Candidate vectors, FloatTensor [num_candidates, hidden]."""
    if pooling == "first":
        return states.index_select(0, batch.class_rows)
    return functional.embedding_bag(batch.averaged_rows, states, batch.averaged_starts, mode="mean")
