"""Chunks of texts that are longer than a sequence: split at sentence ends, those of passages with overlap."""

from __future__ import annotations

import math
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from gliclass_rerank.prompt.tokenizer import TextTokenizer
from gliclass_rerank.types import Extent, TokenIds

# A sentence may go on from the end of one chunk to the next; this share of both has it whole.
_OVERLAP: Final = 8
# Shorter chunks rank as well as whole windows, cost less attention, and say more closely where the answer is.
_MOST_TOKENS: Final = 126
# Bound on the cost of one passage; what is left over is cut and reported.
_MOST_CHUNKS: Final = 64
# After the end of a line, or of a sentence with its closing quote or bracket; in Chinese and Japanese without a space.
_SENTENCE_END: Final = re.compile(
    r"\n\s*|(?<=[.!?\u2026])\s+|(?<=[.!?\u2026][\"')\]\u201d\u2019])\s+|(?<=[\u3002\uff01\uff1f])"
)
# A chunk encoded on its own may begin with a token more than it has in its text.
SPARE_TOKENS: Final = 2


@dataclass(frozen=True)
class Chunk:
    """Part of a candidate, or a whole one.

    Attributes:
        candidate: Position of the candidate in its request.
        span: First and past-the-last character; None for a whole candidate.
    """

    candidate: int
    span: Extent | None = None


def chunked(
    tokenizer: TextTokenizer,
    texts: Sequence[str],
    encoded: Sequence[TokenIds],
    limit: int,
    encode: Callable[[Sequence[str]], list[TokenIds]],
) -> tuple[list[TokenIds], tuple[Chunk, ...]]:
    """Split what is longer than a limit.

    Args:
        tokenizer: Tokenizer of the texts.
        texts: Candidates.
        encoded: Their token ids.
        limit: Maximum number of token ids, special tokens included if `encode` adds them.
        encode: Encoder of chunks.

    Returns:
        Token ids of all chunks in order, and the chunks. Of a passage with more than 64 the last one may exceed the
        limit.
    """
    chunks: list[Chunk] = []
    special = len(encode([""])[0])
    for index, (text, ids) in enumerate(zip(texts, encoded, strict=True)):
        if len(ids) <= limit:
            chunks.append(Chunk(index))
            continue
        _, tokens = tokenizer.encode_with_spans(text)
        room = min(_MOST_TOKENS, max(1, limit - special - SPARE_TOKENS))
        spans = chunk_spans(text, tokens, room, overlap=room // _OVERLAP, most=_MOST_CHUNKS)
        chunks += [Chunk(index, span) for span in spans]
    parts = [(texts[chunk.candidate], chunk.span) for chunk in chunks if chunk.span is not None]
    new = iter(encode([text[slice(*span)] for text, span in parts]))
    return [encoded[chunk.candidate] if chunk.span is None else next(new) for chunk in chunks], tuple(chunks)


def chunk_spans(
    text: str, tokens: Sequence[Extent], room: int, *, overlap: int = 0, most: int | None = None
) -> list[Extent]:
    """Split a text into chunks of similar length.

    A chunk ends with a sentence if one ends in its second half, else with a word.

    Args:
        text: Any string.
        tokens: Characters of each token, ascending.
        room: Maximum number of tokens of a chunk, at least 1.
        overlap: Maximum number of tokens that a chunk repeats of the one before, in whole sentences or words.
        most: Maximum number of chunks, of which the last one may exceed `room`; None for any.

    Returns:
        Characters of each chunk, ascending; only white space is in none.
    """
    starts = [start for start, _ in tokens]
    sentences = sorted({bisect_left(starts, found.end()) for found in _SENTENCE_END.finditer(text)})
    words = [index for index in range(1, len(tokens)) if _begins_word(text, tokens, index)]
    spans, start, first = list[Extent](), 0, 0
    while (left := len(tokens) - start) > room and (most is None or len(spans) < most - 1):
        count = math.ceil((left - overlap) / (room - overlap))
        length = math.ceil((left - overlap) / count) + overlap
        least, limit = start + max(1, length // 2), start + length
        end, breaks = next(
            ((end, breaks) for breaks in (sentences, words) if (end := _last(breaks, least, limit))), (limit, [])
        )
        last = tokens[end - 1][1]
        if first < last:  # a token may be a part of a character
            spans.append((first, last))
        start = max(start + 1, _first(breaks, end - overlap, end))
        first = starts[start] if start < end else max(starts[start], last)
    return [*spans, (first, len(text))]


def _begins_word(text: str, tokens: Sequence[Extent], index: int) -> bool:
    start = tokens[index][0]
    return start > tokens[index - 1][1] or text[start : start + 1].isspace()


def _last(breaks: Sequence[int], least: int, most: int) -> int | None:
    """Last break in a range, ends included; None if there is none."""
    place = bisect_right(breaks, most)
    return breaks[place - 1] if place and breaks[place - 1] >= least else None


def _first(breaks: Sequence[int], least: int, most: int) -> int:
    """First break of a range, which ends with one if there is any."""
    place = bisect_left(breaks, least)
    return min(breaks[place], most) if place < len(breaks) else most
