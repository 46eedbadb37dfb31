"""Optimal length of a `joint` window, from a token's cost in the backbone.

A window of W tokens repeats q shared tokens, so each candidate token pays for W / (W - q) tokens, each costing D in
dense layers and 4 * d * W in full attention (d: width; per-layer average; a multiply-accumulate is two operations).
Minimising W * (D + 4 d W) / (W - q) gives

    W* = q + sqrt(q^2 + q * D / (4 d))

which is about sqrt(6 d q) for a BERT (D = 24 d^2) and small q.
"""

from __future__ import annotations

import math
from typing import Final

from gliclass_rerank.model.encoder import BackboneShape

# DeBERTa's attention builds two extra terms of L x 512 without a fused kernel: beyond this its cost explodes.
_DEBERTA_CAP: Final = 512


def optimal_window_tokens(shape: BackboneShape, overhead_tokens: int) -> int:
    """Cheapest window length, special tokens included.

    Args:
        shape: Sizes of the backbone.
        overhead_tokens: Tokens repeated in every window (query, prompt, examples, special tokens); at least 1.

    Returns:
        Tokens per window. May be shorter than a passage, which then has its own window.
    """
    local = (1 - shape.global_share) * 4 * shape.width * shape.local_window
    dense = 8 * shape.width**2 + 2 * shape.ffn_macs + local
    attention = 4 * shape.width * shape.global_share
    q = overhead_tokens
    window = math.ceil(q + math.sqrt(q * q + q * dense / attention))
    return min(window, _DEBERTA_CAP) if shape.model_type == "deberta-v2" else window
