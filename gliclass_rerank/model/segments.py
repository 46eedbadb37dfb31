"""Segment ids: 0 = candidates, 1 = text, 2 = examples. The one place that keeps upstream's quirk.

Kept for checkpoint compatibility (docs/decisions/0002-upstream-quirks.md): upstream meant to give examples the id 2,
but an argmin in place of an argmax puts their start at position 0, so every token of a sequence with an example marker
gets the id 2. Checkpoints were trained that way.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Under `shared_query` a block has one segment: candidates', and a query's is the examples' if it holds any.
CANDIDATES, TEXT, EXAMPLES = 0, 1, 2
NUM_SEGMENTS = 3


def window_segments(ids: Tensor, text_start: Tensor, example_id: int) -> Tensor:
    """Segment ids of `joint` windows.

    Args:
        ids: LongTensor [num_windows, seq_len]. Token ids.
        text_start: LongTensor [num_windows]. Position of the first separator.
        example_id: Id of the example marker.

    Returns:
        LongTensor [num_windows, seq_len] of 0, 1 and 2.
    """
    positions = torch.arange(ids.shape[1], device=ids.device)
    segments = (positions[None, :] >= text_start[:, None]).long()
    return segments.masked_fill((ids == example_id).any(dim=1, keepdim=True), EXAMPLES)
