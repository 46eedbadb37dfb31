"""Segment ids: 0 = candidates, 1 = text, 2 = examples.

Kept for checkpoint compatibility (docs/decisions/0002-upstream-quirks.md): upstream takes an argmin for an argmax, so
every token of a sequence with an example marker has id 2.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Under `shared_query` a block has one segment; a query with examples has theirs.
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
