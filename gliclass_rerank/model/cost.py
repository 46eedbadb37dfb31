"""How long a `joint` window should be, from what a token costs in this backbone.

A window of W tokens holds the query's q tokens once and fills the rest with candidates, so each candidate token pays
for W / (W - q) tokens; each of those costs D in dense layers and 4 * d * W in full attention (d the width, one layer's
average; a multiply-accumulate is two operations). Minimising W * (D + 4 d W) / (W - q) gives

    W* = q + sqrt(q^2 + q * D / (4 d))

which for a BERT-like net (D = 24 d^2) and small q is about sqrt(6 d q). Longer windows only help when q is long.
"""

from __future__ import annotations

import math
from typing import Final

from gliclass_rerank.model.encoder import BackboneShape

# DeBERTa's attention builds two extra terms of L x 512 and has no fused kernel: past this its cost explodes.
_DEBERTA_CAP: Final = 512


def optimal_window_tokens(shape: BackboneShape, overhead_tokens: int) -> int:
    """The cheapest window length for a given shared overhead.

    Args:
        shape: The backbone's sizes.
        overhead_tokens: Tokens that every window repeats: query, prompt, examples, special tokens; at least 1.

    Returns:
        Tokens per window, special tokens included. May be shorter than a passage: then each has its own window.
    """
    local = (1 - shape.global_share) * 4 * shape.width * shape.local_window
    dense = 8 * shape.width**2 + 2 * shape.ffn_macs + local
    attention = 4 * shape.width * shape.global_share
    q = overhead_tokens
    window = math.ceil(q + math.sqrt(q * q + q * dense / attention))
    return min(window, _DEBERTA_CAP) if shape.model_type == "deberta-v2" else window
