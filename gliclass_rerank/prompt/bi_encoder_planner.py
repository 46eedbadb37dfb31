"""Planner of bi-encoders: a text and labels as separate sequences of two encoders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from gliclass_rerank.errors import InputError
from gliclass_rerank.prompt.cutting import (
    label_overflow,
    label_sequences,
    without_excess,
)
from gliclass_rerank.prompt.layout import PromptLayout, ScoringRequest
from gliclass_rerank.prompt.planner import CandidateEncoder, TokenPlan, TruncateSide
from gliclass_rerank.prompt.tokenizer import TextTokenizer
from gliclass_rerank.settings import LongPassages, LongQuery
from gliclass_rerank.types import Blocks, TokenIds


@dataclass(frozen=True, kw_only=True)
class BiEncoderPlanner:
    """Planner of separate sequences for the text and each label.

    Attributes:
        layout: Prompt layout.
        max_window_tokens: Longest sequence of the text encoder.
        label_tokenizer: Tokenizer of the label encoder.
        max_label_tokens: Longest sequence of the label encoder.
        long_query: Treatment of a query longer than its sequence.
        long_passages: Treatment of passages longer than theirs.
    """

    layout: PromptLayout
    max_window_tokens: int
    label_tokenizer: TextTokenizer
    max_label_tokens: int
    long_query: LongQuery = "error"
    long_passages: LongPassages = "cut"
    sees_companions: ClassVar[bool] = False

    @property
    def encode_candidates(self) -> CandidateEncoder:
        """Function from candidates' texts to their token ids."""
        return self.label_tokenizer.encode_sequences

    def plan(
        self,
        request: ScoringRequest,
        *,
        truncate_side: TruncateSide,
        candidate_ids: Sequence[TokenIds] | None = None,
    ) -> TokenPlan[Blocks]:
        """Plan the sequences of a request."""
        if request.examples:
            raise InputError("`examples` have no place in the architecture 'bi-encoder', which never reads them")
        bare, lost, tokenizer = self.layout.bare_text(request), None, self.layout.tokenizer
        excess = len(tokenizer.prefix_ids) + len(bare.ids) + len(tokenizer.suffix_ids) - self.max_window_tokens
        if excess > 0:
            bare, lost = without_excess(
                bare, excess, self.max_window_tokens, is_query=truncate_side == "candidates", long_query=self.long_query
            )
        text = (*tokenizer.prefix_ids, *bare.ids, *tokenizer.suffix_ids)
        if candidate_ids is None:
            candidate_ids = self.encode_candidates(request.candidates)
        is_split = self.long_passages == "best_chunk" and truncate_side == "candidates"
        labels, chunks, truncated = label_sequences(
            self.label_tokenizer, request.candidates, candidate_ids, self.max_label_tokens, is_split=is_split
        )
        if truncated and truncate_side == "text":
            raise label_overflow(truncated[0])
        num_tokens, members = len(text) + sum(map(len, labels)), tuple(range(len(labels)))
        return TokenPlan((Blocks(text, tuple(labels)),), (members,), chunks, truncated, lost, num_tokens=num_tokens)
