"""Token ids become tensors here, once, for inference and training alike.

Padding is always on the right. `token_mask` is True on real tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gliclass_rerank.calls.cancellation import check_cancelled
from gliclass_rerank.types import Blocks, CachedStates, TokenIds, Window


@dataclass(frozen=True)
class TokenRows:
    """Token ids of several sequences, padded to one length.

    Attributes:
        ids: LongTensor [num_rows, seq_len].
        mask: BoolTensor [num_rows, seq_len]. True marks a real token.
        is_padded: Whether any row is shorter than `seq_len`; known on the host, so that no device is asked.
    """

    ids: Tensor
    mask: Tensor
    is_padded: bool

    @classmethod
    def of(cls, rows: Sequence[TokenIds], *, pad_id: int, device: torch.device) -> TokenRows:
        """Pad rows on the right.

        Args:
            rows: At least one row; each holds at least one token.
            pad_id: Id that fills the end of short rows.
            device: Where the tensors go.

        Returns:
            The padded rows, in the given order.
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
        tokens: The windows' sequences.
        markers: LongTensor [num_windows, max_passages]. Position of each marker; 0 in empty slots.
        marker_mask: BoolTensor [num_windows, max_passages]. True where a slot has a candidate.
        text_start: LongTensor [num_windows]. Position of the first separator.
        candidates: The candidates for the label encoder, all windows after each other
            (`bi-encoder-fused` only, else None).
    """

    tokens: TokenRows
    markers: Tensor
    marker_mask: Tensor
    text_start: Tensor
    candidates: TokenRows | None = None

    @classmethod
    def of(cls, windows: Sequence[Window], *, pad_id: int, label_pad_id: int, device: torch.device) -> WindowBatch:
        """Collate windows.

        Args:
            windows: At least one window, each with at least one marker.
            pad_id: The tokenizer's padding id.
            label_pad_id: The label tokenizer's padding id.
            device: Where the tensors go.

        Returns:
            The batch, windows in the given order.
        """
        slots = max(len(window.markers) for window in windows)
        markers = torch.tensor([(*w.markers, *(0,) * (slots - len(w.markers))) for w in windows], dtype=torch.long)
        counts = torch.tensor([len(window.markers) for window in windows])
        candidates = [ids for window in windows for ids in window.candidate_ids]
        return cls(
            tokens=TokenRows.of([window.token_ids for window in windows], pad_id=pad_id, device=device),
            markers=markers.to(device),
            marker_mask=(torch.arange(slots)[None, :] < counts[:, None]).to(device),
            text_start=torch.tensor([window.text_start for window in windows], dtype=torch.long).to(device),
            candidates=TokenRows.of(candidates, pad_id=label_pad_id, device=device) if candidates else None,
        )


@dataclass(frozen=True)
class LayerStates:
    """States of candidates from which the network can start in mid-way.

    Attributes:
        layer: The layer whose input they are.
        states: FloatTensor [num_rows, seq_len, hidden], of any precision. Padding is finite.
    """

    layer: int
    states: Tensor


@dataclass(frozen=True)
class BlockBatch:
    """One query and its candidates, in groups of similar length.

    Attributes:
        query: One row: the query's sequence.
        groups: The candidates, each group padded to its own longest row.
        known: For groups whose states need not be computed from the start, by their number.
    """

    query: TokenRows
    groups: tuple[TokenRows, ...]
    known: Mapping[int, LayerStates] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        blocks: Blocks,
        groups: Sequence[Sequence[int]],
        *,
        pad_id: int,
        label_pad_id: int,
        device: torch.device,
        states: CachedStates | None = None,
    ) -> BlockBatch:
        """Collate one query with its candidates.

        Args:
            blocks: The token ids.
            groups: Which candidates run together, as positions in `blocks.candidate_ids`.
            pad_id: The tokenizer's padding id.
            label_pad_id: Padding id of the tokenizer that made the candidates.
            device: Where the tensors go.
            states: What is known of some groups.

        Returns:
            The batch, groups in the given order.
        """

        def collated(group: Sequence[int]) -> TokenRows:
            check_cancelled()  # long lists take seconds
            return TokenRows.of([blocks.candidate_ids[i] for i in group], pad_id=label_pad_id, device=device)

        return cls(
            query=TokenRows.of([blocks.query_ids], pad_id=pad_id, device=device),
            groups=tuple(map(collated, groups)),
            known={}
            if states is None
            else {
                number: LayerStates(states.layer, torch.from_numpy(array).to(device))
                for number, array in states.groups.items()
            },
        )
