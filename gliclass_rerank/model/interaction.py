"""Compares a passage with the query token by token, on top of what their vectors say.

A vector averages away the one token that decides; late interaction keeps it: each query token looks for its best match
among the passage's tokens (ColBERT, arXiv 2004.12832), here with a learned salience of the query's tokens. The marker's
state, which has seen the query, adds what a cross-encoder would read from its first token.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class TokenInteraction(nn.Module):
    """A term added to a passage's logit; the parts start where `assemble` or training puts them."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.salience = nn.Linear(hidden_size, 1, bias=False)
        self.match_scale = nn.Linear(1, 1, bias=False)
        self.marker_mlp = nn.Sequential(nn.Linear(hidden_size, hidden_size), nn.GELU(), nn.Linear(hidden_size, 1))

    def forward(self, query: Tensor, candidates: Tensor, token_mask: Tensor) -> Tensor:
        """Score candidates against one query.

        Args:
            query: FloatTensor [query_len, hidden]. The query's states, no padding.
            candidates: FloatTensor [num_rows, seq_len, hidden]. One candidate a row, its marker at position 0.
            token_mask: BoolTensor [num_rows, seq_len]. True marks a real token.

        Returns:
            FloatTensor [num_rows]: the salience-weighted mean of the query tokens' best cosines (in [-1, 1]) times
            `match_scale`, plus the marker's score.
        """
        cosines = functional.normalize(candidates, dim=-1) @ functional.normalize(query, dim=-1).T
        best = cosines.masked_fill(~token_mask[..., None], -1.0).amax(dim=1)
        matched = best @ self.salience(query).softmax(dim=0)
        term: Tensor = self.match_scale(matched) + self.marker_mlp(candidates[:, 0])
        return term.squeeze(-1)
