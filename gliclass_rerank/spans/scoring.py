"""Scores of the sentences of ranked passages, which the model reads as passages of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from gliclass_rerank.cascade import Cascade
from gliclass_rerank.model.probability import probabilities
from gliclass_rerank.pipeline import Pipeline
from gliclass_rerank.prompt.layout import ScoringRequest
from gliclass_rerank.spans.sentences import sentences
from gliclass_rerank.types import Extent, Hit, Ranking, Span


def with_spans(
    pipeline: Pipeline | Cascade,
    requests: Sequence[ScoringRequest],
    rankings: Sequence[Ranking],
    originals: Sequence[Mapping[int, str]],
) -> list[Ranking]:
    """Score the sentences of all hits in one pass, equal ones of a query once.

    Args:
        pipeline: Pipeline or cascade.
        requests: Request of each ranking.
        rankings: Rankings.
        originals: For each ranking the passages whose Unicode was repaired as they were given, by index.

    Returns:
        The rankings with `Hit.spans`.

    Raises:
        BackendError: The forward pass failed.
    """
    found = [[sentences(hit.text) for hit in ranking] for ranking in rankings]
    texts = [
        list(
            dict.fromkeys(
                hit.text[slice(*extent)] for hit, extents in zip(ranking, each, strict=True) for extent in extents
            )
        )
        for ranking, each in zip(rankings, found, strict=True)
    ]
    asked = [replace(request, candidates=some) for request, some in zip(requests, texts, strict=True)]
    scored = pipeline.score(asked, truncate_side="candidates")
    results = []
    for ranking, each, some, result, given in zip(rankings, found, texts, scored, originals, strict=True):
        scores = dict(zip(some, probabilities(result.logits, pipeline.calibration.score), strict=True))
        hits = [
            replace(hit, spans=_spans(hit, extents, scores, given.get(hit.index)))
            for hit, extents in zip(ranking, each, strict=True)
        ]
        results.append(replace(ranking, hits=tuple(hits)))
    return results


def _spans(hit: Hit, extents: Sequence[Extent], scores: Mapping[str, float], original: str | None) -> tuple[Span, ...]:
    places = None if original is None else original_places(original)
    spans = [
        Span(
            start if places is None else places[start],
            end if places is None else places[end],
            scores[hit.text[start:end]],
        )
        for start, end in extents
    ]
    return tuple(sorted(spans, key=lambda span: (-span.score, span.start)))


def original_places(original: str) -> list[int]:
    """Places in a text of the characters that are left once each pair of surrogates has become one, and of its end."""
    places, place = list[int](), 0
    while place < len(original):
        places.append(place)
        is_pair = "\ud800" <= original[place] <= "\udbff" and "\udc00" <= original[place + 1 : place + 2] <= "\udfff"
        place += 2 if is_pair else 1
    return [*places, len(original)]
