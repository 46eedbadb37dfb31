"""Scorers: text and candidate vectors to logits, with upstream's parameter names.

Every scorer takes `text` (FloatTensor [num_windows, hidden]; states [num_windows, seq_len, hidden] for `cross-attn`),
`candidates` (FloatTensor [num_windows, max_passages, hidden]), `marker_mask` (BoolTensor [num_windows, max_passages],
True on filled slots) and `text_mask` (BoolTensor [num_windows, seq_len]), and returns FloatTensor
[num_windows, max_passages]; empty slots hold arbitrary finite numbers.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from gliclass_rerank.model.config import ModelConfig
from gliclass_rerank.model.packing import PackedBlocks

_HOPFIELD_BETA = 4.0


class DotScorer(nn.Module):
    """`simple`: dot product."""

    def forward(self, text: Tensor, candidates: Tensor, marker_mask: Tensor, text_mask: Tensor) -> Tensor:  # noqa: ARG002 - one signature for all scorers
        """Score candidates; shapes in the module docstring."""
        return torch.einsum("wh,wph->wp", text, candidates)


class WeightedDotScorer(nn.Module):
    """`weighted-dot`: MLP over two projections of each side and the product of one pair."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.proj_text = nn.Linear(hidden_size, 2 * hidden_size)
        self.proj_label = nn.Linear(hidden_size, 2 * hidden_size)
        self.out_mlp = nn.Sequential(
            nn.Linear(3 * hidden_size, 4 * hidden_size),
            nn.Identity(),  # upstream's dropout; keeps the numbering of the weights
            nn.ReLU(),
            nn.Linear(4 * hidden_size, 1),
        )

    def forward(self, text: Tensor, candidates: Tensor, marker_mask: Tensor, text_mask: Tensor) -> Tensor:  # noqa: ARG002
        """Score candidates; shapes in the module docstring."""
        text_a, text_b = self.proj_text(text)[:, None].expand(-1, candidates.shape[1], -1).chunk(2, dim=-1)
        label_a, label_b = self.proj_label(candidates).chunk(2, dim=-1)
        logits: Tensor = self.out_mlp(torch.cat([text_a, label_a, text_b * label_b], dim=-1))
        return logits.squeeze(-1)


class MlpScorer(nn.Module):
    """`mlp`: MLP over both vectors, concatenated."""

    def __init__(self, hidden_size: int, width: int) -> None:
        super().__init__()
        self.mlp = _mlp(2 * hidden_size, width, nn.ReLU)

    def forward(self, text: Tensor, candidates: Tensor, marker_mask: Tensor, text_mask: Tensor) -> Tensor:  # noqa: ARG002
        """Score candidates; shapes in the module docstring."""
        logits: Tensor = self.mlp(torch.cat([text[:, None].expand_as(candidates), candidates], dim=-1))
        return logits.squeeze(-1)


class HopfieldScorer(nn.Module):
    """`hopfield`: candidates compete for the text through a softmax over the window, then an MLP.

    Padded slots are masked, unlike in upstream's softmax; results agree at batch size 1.
    """

    def __init__(self, hidden_size: int, width: int) -> None:
        super().__init__()
        self.q_proj = nn.Linear(hidden_size, hidden_size, bias=False)
        self.k_proj = nn.Linear(hidden_size, hidden_size, bias=False)
        self.v_proj = nn.Linear(hidden_size, hidden_size, bias=False)
        self.mlp = _mlp(hidden_size, width, nn.ReLU)

    def forward(self, text: Tensor, candidates: Tensor, marker_mask: Tensor, text_mask: Tensor) -> Tensor:  # noqa: ARG002
        """Score candidates; shapes in the module docstring."""
        match = torch.einsum("wph,wh->wp", self.q_proj(candidates), self.k_proj(text)) * _HOPFIELD_BETA
        weights = match.masked_fill(~marker_mask, -torch.inf).softmax(dim=1)
        logits: Tensor = self.mlp(candidates + weights[..., None] * self.v_proj(text)[:, None])
        return logits.squeeze(-1)


class CrossAttentionScorer(nn.Module):
    """`cross-attn`: candidates attend to the text's states, then an MLP over context and candidate."""

    def __init__(self, hidden_size: int, *, num_heads: int, width: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q_norm = nn.LayerNorm(hidden_size)
        self.kv_norm = nn.LayerNorm(hidden_size)
        self.q = nn.Linear(hidden_size, hidden_size)
        self.k = nn.Linear(hidden_size, hidden_size)
        self.v = nn.Linear(hidden_size, hidden_size)
        self.out = nn.Linear(hidden_size, hidden_size)
        self.norm = nn.LayerNorm(hidden_size)
        self.score_mlp = _mlp(2 * hidden_size, width, nn.GELU)

    def forward(self, text: Tensor, candidates: Tensor, marker_mask: Tensor, text_mask: Tensor) -> Tensor:  # noqa: ARG002
        """Score candidates; shapes in the module docstring."""
        # Kept for checkpoint compatibility: values are not normalised, queries and keys are.
        context = functional.scaled_dot_product_attention(
            self._heads(self.q(self.q_norm(candidates))),
            self._heads(self.k(self.kv_norm(text))),
            self._heads(self.v(text)),
            attn_mask=text_mask[:, None, None, :],
        )
        context = self.norm(self.out(context.transpose(1, 2).flatten(2)))
        logits: Tensor = self.score_mlp(torch.cat([context, candidates], dim=-1))
        return logits.squeeze(-1)

    def _heads(self, states: Tensor) -> Tensor:
        return states.view(*states.shape[:-1], self.num_heads, -1).transpose(1, 2)


class TokenInteraction(nn.Module):
    """Late interaction term, added to a passage's logit.

    Each query token finds its best match among the passage's tokens (ColBERT, arXiv 2004.12832), weighted by a learned
    salience; pooled vectors average a single decisive token away. The marker's state, which has seen the query, adds a
    cross-encoder's score.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.salience = nn.Linear(hidden_size, 1, bias=False)
        self.match_scale = nn.Linear(1, 1, bias=False)
        self.marker_mlp = nn.Sequential(nn.Linear(hidden_size, hidden_size), nn.GELU(), nn.Linear(hidden_size, 1))

    def forward(self, query: Tensor, candidates: Tensor, token_mask: Tensor) -> Tensor:
        """Score candidates against one query.

        Args:
            query: FloatTensor [query_len, hidden]. The query's states, no padding.
            candidates: FloatTensor [num_rows, seq_len, hidden]. One candidate per row, marker at position 0.
            token_mask: BoolTensor [num_rows, seq_len]. True on tokens.

        Returns:
            FloatTensor [num_rows]: salience-weighted mean of the query tokens' best cosines (in [-1, 1]) times
            `match_scale`, plus the marker's score.
        """
        cosines = functional.normalize(candidates, dim=-1) @ functional.normalize(query, dim=-1).T
        best = cosines.masked_fill(~token_mask[..., None], -1.0).amax(dim=1)
        matched = best @ self.salience(query).softmax(dim=0)
        term: Tensor = self.match_scale(matched) + self.marker_mlp(candidates[:, 0])
        return term.squeeze(-1)

    def of_packed(self, states: Tensor, queries: Tensor, query_mask: Tensor, batch: PackedBlocks) -> Tensor:
        """Score the packed candidates of several queries.

        Args:
            states: FloatTensor [num_rows, hidden]. All tokens' states.
            queries: FloatTensor [num_queries, query_len, hidden]. The queries' states.
            query_mask: BoolTensor [num_queries, query_len]. True on tokens.
            batch: Packed batch.

        Returns:
            FloatTensor [num_candidates], as from `forward`.
        """
        first = batch.sequences.read.first_candidate
        tokens = functional.normalize(states, dim=-1)
        keys = functional.normalize(queries, dim=-1).transpose(1, 2)
        ends = batch.ends_by_query
        cosines = torch.cat(
            [tokens[start:end] @ keys[number] for number, (start, end) in enumerate(pairwise([first, *ends]))]
        )
        every = torch.arange(len(cosines), dtype=torch.int32, device=states.device)
        best = functional.embedding_bag(every, cosines, batch.marker_rows - first, mode="max")
        salience = self.salience(queries)[..., 0].masked_fill(~query_mask, -torch.inf).softmax(dim=-1)
        matched = (best * salience.index_select(0, batch.query_of)).sum(dim=-1, keepdim=True)
        term: Tensor = self.match_scale(matched) + self.marker_mlp(states.index_select(0, batch.marker_rows))
        return term.squeeze(-1)


def _mlp(in_size: int, width: int, act: type[nn.Module]) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(in_size, width), act(), nn.Linear(width, width // 2), act(), nn.Linear(width // 2, 1)
    )


def build_scorer(config: ModelConfig) -> nn.Module:
    """Build the scorer named by `config.scorer_type`."""
    if config.scorer_type == "simple":
        return DotScorer()
    if config.scorer_type == "weighted-dot":
        return WeightedDotScorer(config.hidden_size)
    if config.scorer_type == "mlp":
        return MlpScorer(config.hidden_size, config.scorer_width)
    if config.scorer_type == "hopfield":
        return HopfieldScorer(config.hidden_size, config.scorer_width)
    return CrossAttentionScorer(
        config.hidden_size, num_heads=config.scorer_num_heads, width=config.scorer_mlp_hidden_size
    )
