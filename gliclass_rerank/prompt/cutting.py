"""Cuts of what outgrows a window, each reported as a `Truncation`."""

from __future__ import annotations

from collections.abc import Sequence

from gliclass_rerank.errors import WindowOverflowError
from gliclass_rerank.prompt.chunks import Chunk, chunked
from gliclass_rerank.prompt.layout import Encoded, Frame
from gliclass_rerank.prompt.tokenizer import TextTokenizer
from gliclass_rerank.settings import LongQuery
from gliclass_rerank.types import TokenIds, Truncation


def least_room(room: int, limit: int | None) -> int:
    """Smaller one of the room and a limit, if there is one."""
    return room if limit is None else min(room, limit)


def label_overflow(label: Truncation) -> WindowOverflowError:
    """Error for a label that does not fit whole."""
    return WindowOverflowError(
        f"label {label.index} takes {label.num_tokens} tokens, {label.num_lost} more than fit its window"
    )


def without_excess(
    text: Encoded, excess: int, limit: int, *, is_query: bool, long_query: LongQuery
) -> tuple[Encoded, Truncation]:
    """Remove `excess` tokens from a text's truncatable part: of a query's middle, of another text's end."""
    num_tokens = text.num_truncatable
    if excess >= num_tokens or (is_query and long_query == "error"):
        raise WindowOverflowError(f"the query takes {limit + excess} tokens, more than the window's {limit}")
    return text.without(excess, in_middle=is_query), Truncation(0, num_tokens, excess)


def shorten(frame: Frame, left: int) -> tuple[Frame, Truncation | None]:
    """Cut a frame's text to the tokens that are left for it."""
    total = frame.num_truncatable
    if total <= left:
        return frame, None
    return frame.without(total - left), Truncation(index=0, num_tokens=total, num_lost=total - left)


def cut_ends(
    candidates: Sequence[TokenIds], room: int, chunks: Sequence[Chunk] = ()
) -> tuple[list[TokenIds], tuple[Truncation, ...]]:
    """Cut candidates, or chunks of them, at their ends."""
    truncated = tuple(
        Truncation(chunks[index].candidate if chunks else index, len(ids), len(ids) - room)
        for index, ids in enumerate(candidates)
        if len(ids) > room
    )
    return [ids[:room] for ids in candidates], truncated


def label_sequences(
    tokenizer: TextTokenizer,
    texts: Sequence[str],
    encoded: Sequence[TokenIds],
    max_tokens: int,
    *,
    is_split: bool,
) -> tuple[list[TokenIds], tuple[Chunk, ...], tuple[Truncation, ...]]:
    """Whole sequences for a label encoder; cut sequences keep their closing special tokens."""
    sequences, chunks = list(encoded), tuple[Chunk, ...]()
    if is_split and max(map(len, sequences), default=0) > max_tokens:
        sequences, chunks = chunked(tokenizer, texts, sequences, max_tokens, tokenizer.encode_sequences)
    closing = tokenizer.suffix_ids
    kept = [ids if len(ids) <= max_tokens else ids[: max_tokens - len(closing)] + closing for ids in sequences]
    return kept, chunks, cut_ends(sequences, max_tokens, chunks)[1]
