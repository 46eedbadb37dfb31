"""Batches filled up to few numbers of tokens, for libraries that prepare themselves for each number that they meet.

What oneDNN has prepared is kept: torch's bfloat16 by up to a thousand preparations of nearly a MiB each, while float32
needs none. In openvino preparing takes longer (in int8 half a batch's time) than a few tokens more.
"""

from __future__ import annotations

_FEW_TOKENS = 128
_STEP, _STEP_OF_FEW = 128, 32


def filling(num_tokens: int) -> int:
    """Number of tokens that a batch lacks to the next bucket."""
    return -num_tokens % (_STEP_OF_FEW if num_tokens <= _FEW_TOKENS else _STEP)
