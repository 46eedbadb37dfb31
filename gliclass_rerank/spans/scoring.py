"""Scores of the sentences of passages, which the model reads as passages of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from gliclass_rerank.cascade import Cascade
from gliclass_rerank.model.probability import probabilities
from gliclass_rerank.pipeline import Pipeline
from gliclass_rerank.prompt.layout import ScoringRequest
from gliclass_rerank.spans.sentences import sentences
from gliclass_rerank.types import Ranking, Span


def with_spans(
    pipeline: Pipeline | Cascade,
    requests: Sequence[ScoringRequest],
    rankings: Sequence[Ranking],
    originals: Sequence[Mapping[int, str]],
) -> list[Ranking]:
    """Score the sentences of all hits.

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
    found = passage_spans(
        pipeline,
        [replace(each, candidates=[hit.text for hit in hits]) for each, hits in zip(requests, rankings, strict=True)],
    )
    return [
        replace(
            ranking,
            hits=tuple(
                replace(hit, spans=as_given(spans, given.get(hit.index)))
                for hit, spans in zip(ranking, each, strict=True)
            ),
        )
        for ranking, each, given in zip(rankings, found, originals, strict=True)
    ]


def passage_spans(pipeline: Pipeline | Cascade, requests: Sequence[ScoringRequest]) -> list[list[tuple[Span, ...]]]:
    """Score the sentences of passages, equal ones of a request once.

    Args:
        pipeline: Pipeline or cascade.
        requests: Requests with the passages as candidates.

    Returns:
        For each passage of each request its sentences by descending score, ties in their order.

    Raises:
        BackendError: The forward pass failed.
    """
    found = [[(text, sentences(text)) for text in request.candidates] for request in requests]
    texts = [list(dict.fromkeys(text[start:end] for text, extents in each for start, end in extents)) for each in found]
    asked = [replace(request, candidates=some) for request, some in zip(requests, texts, strict=True)]
    results = []
    for each, some, scored in zip(found, texts, pipeline.score(asked, truncate_side="candidates"), strict=True):
        scores = dict(zip(some, probabilities(scored.logits, pipeline.calibration.score), strict=True))
        spans = ([Span(start, end, scores[text[start:end]]) for start, end in extents] for text, extents in each)
        results.append([tuple(sorted(some, key=lambda span: -span.score)) for some in spans])
    return results


def as_given(spans: tuple[Span, ...], original: str | None) -> tuple[Span, ...]:
    """Move spans of a repaired text to the text as it was given; None if it needed no repair."""
    if original is None:
        return spans
    places = _original_places(original)
    return tuple(replace(span, start=places[span.start], end=places[span.end]) for span in spans)


def _original_places(original: str) -> list[int]:
    """Places of the characters that are left once each pair of surrogates has become one, and of the end."""
    places, place = list[int](), 0
    while place < len(original):
        places.append(place)
        is_pair = "\ud800" <= original[place] <= "\udbff" and "\udc00" <= original[place + 1 : place + 2] <= "\udfff"
        place += 2 if is_pair else 1
    return [*places, len(original)]
