"""Parts of a classification request: groups of its labels, and chunks of a text that outgrows the window."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from gliclass_rerank.prompt.layout import ScoringRequest
from gliclass_rerank.prompt.planner import Planner
from gliclass_rerank.prompt.tokenizer import TextTokenizer

_SENTENCE_END: Final = re.compile("[.!?\u2026][\"')\\]\u00bb\u201d\u2019]*(?=\\s)|[\u3002\uff01\uff1f]|\n")
_WORD_END: Final = re.compile(r"(?<=\S)(?=\s)")
# A chunk by itself may have a token more than as a part of its text.
_SPARE_TOKENS: Final = 2


def label_groups(request: ScoringRequest, size: int | None) -> list[ScoringRequest]:
    """Split a request into requests of at most `size` candidates; None keeps them together."""
    labels = request.candidates
    if size is None or len(labels) <= size:
        return [request]
    return [replace(request, candidates=labels[start : start + size]) for start in range(0, len(labels), size)]


def chunked(planner: Planner[Any], groups: Sequence[ScoringRequest]) -> list[list[ScoringRequest]]:  # Any: its inputs
    """Split the text of requests that outgrows the window of any of them.

    Chunks are of similar length and end with a sentence, if there is one in their second half, else with a word.

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
    room = min(cut.num_tokens - cut.num_lost for cut in cuts)
    text = groups[0].text
    chunks = split_text(planner.layout.tokenizer, text, max(1, room - _SPARE_TOKENS))
    if len(chunks) < 2:
        return [list(groups)]
    return [part for chunk in chunks for part in chunked(planner, [replace(group, text=chunk) for group in groups])]


def split_text(tokenizer: TextTokenizer, text: str, max_tokens: int) -> list[str]:
    """Split a text into chunks of at most `max_tokens` tokens and of similar length; only white space is lost."""
    _, spans = tokenizer.encode_with_spans(text)
    chunks, first = list[str](), 0
    while first < len(spans):
        left = len(spans) - first
        start, last = spans[first][0], first + math.ceil(left / math.ceil(left / max_tokens)) - 1
        end = len(text) if last == len(spans) - 1 else _good_end(text, start, max(spans[last][1], start + 1))
        chunks.append(text[start if chunks else 0 : end])
        first = next((number for number in range(first + 1, len(spans)) if spans[number][0] >= end), len(spans))
    return [chunk for chunk in chunks if chunk.strip()] or [text]


def _good_end(text: str, start: int, limit: int) -> int:
    middle = (start + limit) // 2
    for pattern in (_SENTENCE_END, _WORD_END):
        ends = [found.end() for found in pattern.finditer(text, middle, limit + 1) if found.end() <= limit]
        if ends:
            return ends[-1]
    return limit
