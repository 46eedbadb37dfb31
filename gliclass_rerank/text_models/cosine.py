"""Teacher over a sentence encoder: cosine of query and passage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gliclass_rerank.text_models.interfaces import QueryPassages, Scored, TextEncoder, by_ask


class CosineTeacher:
    """Teacher that scores passages by cosine.

    Args:
        encoder: Encoder of both.
    """

    is_logit: Final = False

    def __init__(self, encoder: TextEncoder) -> None:
        self._encoder = encoder

    def score(self, asks: Sequence[QueryPassages]) -> Scored:
        """Score passages by cosine; equal texts are embedded once."""
        query_rows: dict[str, int] = {}
        passage_rows: dict[str, int] = {}
        for query, passages in asks:
            query_rows.setdefault(query, len(query_rows))
            for passage in passages:
                passage_rows.setdefault(passage, len(passage_rows))
        if not passage_rows:
            return Scored(by_ask([], asks), 0)
        queries = self._encoder.encode(list(query_rows), "query")
        passages_embedded = self._encoder.encode(list(passage_rows), "passage")
        cosines = [
            float(queries.vectors[query_rows[query]] @ passages_embedded.vectors[passage_rows[passage]])
            for query, passages in asks
            for passage in passages
        ]
        return Scored(by_ask(cosines, asks), queries.num_tokens + passages_embedded.num_tokens)
