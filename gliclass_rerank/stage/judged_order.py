"""Order of hits of which some were judged for this very query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gliclass_rerank.examples.judgements import judged_score, place
from gliclass_rerank.types import Judged, StageHit


def judged_first(hits: Sequence[StageHit], judged: Sequence[Judged | None]) -> list[StageHit]:
    """Known relevant hits first, irrelevant ones last; `judged` by index."""
    marked = [
        replace(
            hit,
            score=judged_score(judged[hit.index], hit.score or 0.0),
            rerank_score=judged_score(judged[hit.index], hit.rerank_score or 0.0),
            judged=judged[hit.index],
        )
        for hit in hits
    ]
    return sorted(marked, key=lambda hit: place(hit.judged))
