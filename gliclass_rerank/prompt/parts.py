"""Parts of a classification request: groups of its labels, and chunks of a text that outgrows the window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from gliclass_rerank.prompt.chunks import SPARE_TOKENS, chunk_spans
from gliclass_rerank.prompt.layout import ScoringRequest
from gliclass_rerank.prompt.planner import Planner


def label_groups(request: ScoringRequest, size: int | None) -> list[ScoringRequest]:
    """Split a request into requests of at most `size` candidates; None keeps them together."""
    labels = request.candidates
    if size is None or len(labels) <= size:
        return [request]
    return [replace(request, candidates=labels[start : start + size]) for start in range(0, len(labels), size)]


def text_chunks(planner: Planner[Any], groups: Sequence[ScoringRequest]) -> list[list[ScoringRequest]]:
    """Split the text of requests that outgrows the window of any of them.

    Args:
        planner: Planner of the checkpoint.
        groups: Requests that differ in their candidates only.

    Returns:
        For each chunk the requests with it in place of the text; the given ones if it fits.

    Raises:
        WindowOverflowError: Prompt, examples and labels leave no room for the text.
    """
    plans = [planner.plan(group, truncate_side="text") for group in groups if group.candidates]
    cuts = [plan.text_truncation for plan in plans if plan.text_truncation is not None]
    if not cuts:
        return [list(groups)]
    text, room = groups[0].text, min(cut.num_tokens - cut.num_lost for cut in cuts)
    _, tokens = planner.layout.tokenizer.encode_with_spans(text)
    chunks = [text[slice(*span)] for span in chunk_spans(text, tokens, max(1, room - SPARE_TOKENS))]
    if len(chunks) < 2:
        return [list(groups)]
    # Again, because labels may leave less room for another chunk.
    return [part for chunk in chunks for part in text_chunks(planner, [replace(group, text=chunk) for group in groups])]
