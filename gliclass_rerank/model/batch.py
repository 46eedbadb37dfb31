"""Batches: grouping by length, and collation of token ids to tensors, for inference and training.

Padding is always on the right. `token_mask` is True on tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

from gliclass_rerank.calls.steps import between_groups
from gliclass_rerank.model.segments import EXAMPLES, TEXT
from gliclass_rerank.types import Blocks, TokenIds, Window

if TYPE_CHECKING:
    from gliclass_rerank.model.config import ModelConfig

# Maximum padding of a group, as shares of its own tokens and of its budget; a little is cheaper than another pass.
_PADDING_OF_OWN: Final = 1 / 8
_PADDING_OF_BUDGET: Final = 1 / 16
_LITTLE_PADDING: Final = 32


@dataclass(frozen=True)
class TokenRows:
    """Token ids of several sequences, padded to one length.

    Attributes:
        ids: LongTensor [num_rows, seq_len].
        mask: BoolTensor [num_rows, seq_len]. True on tokens.
        is_padded: Some row is shorter than `seq_len`; known on the host, which saves a device synchronisation.
    """

    ids: Tensor
    mask: Tensor
    is_padded: bool

    @classmethod
    def of(cls, rows: Sequence[TokenIds], *, pad_id: int, device: torch.device) -> TokenRows:
        """Pad rows on the right.

        Args:
            rows: At least one row of at least one token.
            pad_id: Padding id.
            device: Device of the tensors.

        Returns:
            Padded rows, in the given order.
        """
        lengths = [len(row) for row in rows]
        seq_len = max(lengths)
        ids = torch.tensor([(*row, *(pad_id,) * (seq_len - len(row))) for row in rows], dtype=torch.long)
        mask = torch.arange(seq_len)[None, :] < torch.tensor(lengths)[:, None]
        return cls(ids.to(device), mask.to(device), min(lengths) < seq_len)


@dataclass(frozen=True)
class WindowBatch:
    """Rows of a `joint` forward pass.

    Attributes:
        tokens: Sequences of the windows.
        markers: LongTensor [num_windows, max_passages]. Marker positions; 0 in empty slots.
        marker_mask: BoolTensor [num_windows, max_passages]. True on filled slots.
        text_start: LongTensor [num_windows]. Position of the first separator.
        candidates: Label encoder input of all windows, concatenated (`bi-encoder-fused` only, else None).
    """

    tokens: TokenRows
    markers: Tensor
    marker_mask: Tensor
    text_start: Tensor
    candidates: TokenRows | None = None

    def scored_by(self, model: Any, **options: Any) -> Tensor:  # Any: an architecture that reads windows
        """Compute the model's logits, FloatTensor [num_windows, max_passages]."""
        logits: Tensor = model.score_windows(self, **options)
        return logits


@dataclass(frozen=True)
class LayerStates:
    """Candidate states at a layer's input, from which the network can resume.

    Attributes:
        layer: Layer number.
        states: FloatTensor [num_rows, seq_len, hidden], of any precision. Padding is finite.
    """

    layer: int
    states: Tensor


@dataclass(frozen=True)
class BlockBatch:
    """Query and candidates, in groups of similar length.

    Attributes:
        query: One row, the query's sequence.
        groups: Candidates, each group padded to its longest row.
        cached: Precomputed states by group number.
        query_segment: Segment id of the query's tokens.
    """

    query: TokenRows
    groups: tuple[TokenRows, ...]
    cached: Mapping[int, LayerStates] = field(default_factory=dict)
    query_segment: int = TEXT

    def scored_by(self, model: Any, **options: Any) -> Tensor:  # Any: an architecture that reads blocks
        """Compute the model's logits, FloatTensor [num_candidates], group by group."""
        logits: Tensor = model.score_blocks(self, **options)
        return logits


@dataclass(frozen=True)
class Collator:
    """Collator of token ids for one network.

    Attributes:
        pad_id: Padding id of the backbone.
        label_pad_id: Padding id of the encoder of candidates' own sequences.
        example_id: Id of the example marker.
        device: Device of the tensors.
    """

    pad_id: int
    label_pad_id: int
    example_id: int
    device: torch.device

    @classmethod
    def of(cls, config: ModelConfig, device: torch.device) -> Collator:
        """Make the collator of a network from its config."""
        label_pad_id = config.label_shape.pad_id if config.is_bi_encoder else config.shape.pad_id
        return cls(config.shape.pad_id, label_pad_id, config.example_token_index, device)

    def rows(self, rows: Sequence[TokenIds]) -> TokenRows:
        """Pad candidates' own sequences."""
        return TokenRows.of(rows, pad_id=self.label_pad_id, device=self.device)

    def windows(self, windows: Sequence[Window]) -> WindowBatch:
        """Collate windows, at least one, each with at least one marker; order is kept."""
        slots = max(len(window.markers) for window in windows)
        markers = torch.tensor([(*w.markers, *(0,) * (slots - len(w.markers))) for w in windows], dtype=torch.long)
        counts = torch.tensor([len(window.markers) for window in windows])
        candidates = [ids for window in windows for ids in window.candidate_ids]
        return WindowBatch(
            tokens=TokenRows.of([window.token_ids for window in windows], pad_id=self.pad_id, device=self.device),
            markers=markers.to(self.device),
            marker_mask=(torch.arange(slots)[None, :] < counts[:, None]).to(self.device),
            text_start=torch.tensor([window.text_start for window in windows], dtype=torch.long).to(self.device),
            candidates=self.rows(candidates) if candidates else None,
        )

    def blocks(
        self, blocks: Blocks, groups: Sequence[Sequence[int]], cached: Mapping[int, LayerStates] | None = None
    ) -> BlockBatch:
        """Collate one query with its candidates.

        Args:
            blocks: Token ids.
            groups: Candidates of each group, as positions in `blocks.candidate_ids`.
            cached: Precomputed states by group number.

        Returns:
            Batch with groups in the given order.
        """
        ids, pad_id, device = blocks.candidate_ids, self.label_pad_id, self.device
        rows = []
        for group in groups:
            between_groups()  # long lists take seconds
            rows.append(TokenRows.of([ids[index] for index in group], pad_id=pad_id, device=device))
        return BlockBatch(
            query=TokenRows.of([blocks.query_ids], pad_id=self.pad_id, device=device),
            groups=tuple(rows),
            cached=cached or {},
            query_segment=EXAMPLES if self.example_id in blocks.query_ids else TEXT,
        )


def length_groups(lengths: Mapping[int, int], budget: int, *, is_tight: bool = True) -> list[list[int]]:
    """Group items of similar length, longest first.

    A group's padding is limited to a share of the budget. A tight group's padding is at most an eighth of its own
    tokens too, because another group costs no more than a few tokens do; groups of a few tokens are not split. Runtimes
    that compute no padding, or fill batches up, take loose groups.

    Args:
        lengths: Tokens by item.
        budget: Tokens per group, padding included; a longer item forms a group of its own.
        is_tight: Limit padding to a share of the group's own tokens too.

    Returns:
        Keys of `lengths`, each once.
    """
    groups: list[list[int]] = []
    width = padding = own = 0
    for item in sorted(lengths, key=lambda key: (-lengths[key], key)):
        length, most = lengths[item], budget * _PADDING_OF_BUDGET
        padding, own = padding + width - length, own + length
        if is_tight:
            most = min(most, max(own * _PADDING_OF_OWN, _LITTLE_PADDING))
        if not groups or width * (len(groups[-1]) + 1) > budget or padding > most:
            groups.append([])
            width, padding, own = length, 0, length
        groups[-1].append(item)
    return groups
