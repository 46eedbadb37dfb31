"""Immutable tokenizer, safe against special tokens spelled out in texts.

It calls the `tokenizers` object with truncation and padding switched off once; a shared transformers tokenizer changes
both on every call, which is unsafe under threads.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from tokenizers import AddedToken, Encoding, Tokenizer

from gliclass_rerank.calls.steps import between_groups
from gliclass_rerank.errors import BackendError, CheckpointError, GLiClassRerankError, cause
from gliclass_rerank.prompt.pieces import LABEL, MARKERS
from gliclass_rerank.types import TokenIds

# Texts encoded between two looks at whether the call is still wanted; enough for the tokenizer's threads.
_AT_ONCE: Final = 1024


class TextTokenizer:
    """Tokenizer of text pieces as they appear between special tokens.

    Some tokenizers treat the start of a string differently from a piece after a special token (prefix space). Each
    piece
    is therefore encoded between two sentinels, added tokens whose ids are dropped; this matches upstream, which
    tokenises
    the whole prompt at once. Sentinels have random names, so no text can contain them.

    Args:
        tokenizer: Source tokenizer; copied.

    Attributes:
        prefix_ids: Special tokens that open a sequence, such as [CLS].
        suffix_ids: Special tokens that close a sequence, such as [SEP].
        highest_id: Highest token id of any text.
        source: The tokenizer as loaded, in the JSON format of `tokenizers`.
        unknown_id: Id of what the vocabulary lacks; None if it lacks nothing, as one of bytes.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        with failures_as(_not_usable):
            self._set_up(tokenizer)

    def _set_up(self, tokenizer: Tokenizer) -> None:
        self.source = tokenizer.to_str()
        state: dict[str, Any] = json.loads(self.source)  # Any: the tokenizers library's JSON
        self._markers: dict[str, int] = {token["content"]: token["id"] for token in state["added_tokens"]}
        self._spelled_out = [marker for marker in MARKERS if marker not in self._markers]
        label: dict[str, Any] = next((token for token in state["added_tokens"] if token["content"] == LABEL), {})
        self._tokenizer = Tokenizer.from_str(json.dumps(_without_spelled_specials(state)))
        self._tokenizer.encode_special_tokens = True
        self._sentinel = f"\ue000{uuid.uuid4().hex}\ue000"
        # As for markers, so that a normaliser treats text beside a sentinel as text beside a marker.
        traits = {trait: bool(label.get(trait)) for trait in ("lstrip", "rstrip", "normalized")}
        self._tokenizer.add_tokens([AddedToken(self._sentinel, special=False, **traits)])
        sentinel_id = self._tokenizer.token_to_id(self._sentinel)
        frame = self._tokenizer.encode(f"{self._sentinel}x{self._sentinel}").ids
        if sentinel_id is None or frame.count(sentinel_id) != 2:
            raise CheckpointError(
                "the tokenizer's normaliser breaks up its own markers; they must be added as special tokens"
            )
        opening, closing = frame.index(sentinel_id), len(frame) - frame[::-1].index(sentinel_id)
        self.prefix_ids: TokenIds = tuple(frame[:opening])
        self.suffix_ids: TokenIds = tuple(frame[closing:])
        model = state["model"]
        named = model.get("unk_token")
        self.unknown_id: int | None = model.get("unk_id") if named is None else self._tokenizer.token_to_id(named)
        self.highest_id = max(_highest_id(state), *self.prefix_ids, *self.suffix_ids, 0)

    def marker_id(self, marker: str) -> int | None:
        """Id of an added token; None if the tokenizer lacks it."""
        return self._markers.get(marker)

    def token(self, index: int) -> str | None:
        """Token of an id, or None."""
        named = (content for content, number in self._markers.items() if number == index)
        return next(named, None) or self._tokenizer.id_to_token(index)

    def pieces(self) -> list[str]:
        """Text of each entry of the vocabulary, markers and sentinels excluded."""
        ids = range(self._tokenizer.get_vocab_size(with_added_tokens=False))
        with failures_as(_not_usable):
            return self._tokenizer.decode_batch([[index] for index in ids], skip_special_tokens=False)

    def neutral(self, text: str) -> str:
        """Break up markers that the tokenizer would have to spell out; real tokens need no such care."""
        for marker in self._spelled_out:
            while marker in text:  # a loop, because removing one marker may form another
                text = text.replace(marker, marker[1:-1])
        return text

    def encode(self, texts: Sequence[str]) -> list[TokenIds]:
        """Encode pieces that follow a special token.

        Args:
            texts: Any strings, empty ones included.

        Returns:
            Token ids without special tokens, one tuple a text.
        """
        sentinel, found = self._sentinel, list[TokenIds]()
        for start in range(0, len(texts), _AT_ONCE):
            between_groups()
            part = texts[start : start + _AT_ONCE]
            framed = [f"{sentinel}{self.neutral(text) if '<<' in text else text}{sentinel}" for text in part]
            try:
                encoded = self._tokenizer.encode_batch_fast(framed, add_special_tokens=False)
            except BaseException as error:
                if not _is_failure(error):
                    raise
                raise BackendError(f"the tokenizer failed: {cause(error)}") from error
            found += [tuple(encoding.ids[1:-1]) for encoding in encoded]
        return found

    def encode_sequences(self, texts: Sequence[str]) -> list[TokenIds]:
        """Encode whole texts, special tokens included.

        Args:
            texts: Any strings, empty ones included.

        Returns:
            Token ids, one tuple a text.
        """
        found: list[TokenIds] = []
        for start in range(0, len(texts), _AT_ONCE):
            between_groups()
            try:
                encoded = self._tokenizer.encode_batch_fast(list(texts[start : start + _AT_ONCE]))
            except BaseException as error:
                if not _is_failure(error):
                    raise
                raise BackendError(f"the tokenizer failed: {cause(error)}") from error
            found += [tuple(encoding.ids) for encoding in encoded]
        return found

    def encode_with_spans(
        self, text: str, *, at_start: bool = False, at_end: bool = False
    ) -> tuple[TokenIds, list[tuple[int, int]]]:
        """Encode one piece with the character span of each token.

        Args:
            text: Any string.
            at_start: The piece opens the sequence instead of following a special token.
            at_end: The piece closes the sequence instead of preceding a special token.

        Returns:
            Token ids without special tokens, and (start, end) characters of each.
        """
        before, after = "" if at_start else self._sentinel, "" if at_end else self._sentinel
        try:
            encoding: Encoding = self._tokenizer.encode(f"{before}{text}{after}", add_special_tokens=False)
        except BaseException as error:
            if not _is_failure(error):
                raise
            raise BackendError(f"the tokenizer failed: {cause(error)}") from error
        kept = slice(0 if at_start else 1, None if at_end else -1)
        spans = [(start - len(before), end - len(before)) for start, end in encoding.offsets[kept]]
        return tuple(encoding.ids[kept]), spans


def _highest_id(state: Mapping[str, Any]) -> int:  # Any: the tokenizers library's JSON
    """Highest id that a text can produce; special tokens are never read from text."""
    vocab = state["model"]["vocab"]
    ids = range(len(vocab)) if isinstance(vocab, list) else vocab.values()
    added = (token["id"] for token in state["added_tokens"] if not token["special"])
    return max(max(ids, default=0), max(added, default=0))


def _without_spelled_specials(state: dict[str, Any]) -> dict[str, Any]:  # Any: the tokenizers library's JSON
    """Disable special tokens in text, truncation and padding, in a tokenizer's state (in place)."""
    state["truncation"] = state["padding"] = None
    for token in state["added_tokens"]:
        # Only special tokens can be read as ordinary text; some checkpoints add their markers as plain tokens.
        # Other added tokens, such as runs of spaces, are harmless.
        token["special"] |= token["content"] in MARKERS
    if state["model"].get("type") == "Unigram":
        # Its vocabulary lists special tokens with the best score and finds them in text by itself.
        pieces = state["model"]["vocab"]
        for token in state["added_tokens"]:
            if token["special"] and token["id"] < len(pieces):
                token["content"] = pieces[token["id"]][0] = f"\ue001{uuid.uuid4().hex}"
    return state


@contextmanager
def failures_as(refused: Callable[[str], GLiClassRerankError]) -> Iterator[None]:
    """Convert failures of the tokenizers library, plain `Exception`s and panics, to ours."""
    try:
        yield
    except GLiClassRerankError:
        raise
    except BaseException as error:
        if not _is_failure(error):
            raise
        raise refused(cause(error)) from error


def _is_failure(error: BaseException) -> bool:
    """Tell a failure of the library, whose panics are no `Exception`, from an interrupt."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


def _not_usable(reason: str) -> CheckpointError:
    return CheckpointError(f"the tokenizer cannot be used: {reason}")


def check_markers(tokenizer: TextTokenizer, expected: Mapping[str, int], *, optional: Iterable[str] = ()) -> None:
    """Check that a tokenizer's marker ids match the config's.

    Args:
        tokenizer: Tokenizer of the checkpoint.
        expected: Id by marker.
        optional: Markers that older checkpoints lack.

    Raises:
        CheckpointError: A marker is missing or has another id.
    """
    for marker, index in expected.items():
        found = tokenizer.marker_id(marker)
        if found is None and marker in optional:
            continue
        if found != index:
            raise CheckpointError(f"the tokenizer gives {marker} the id {found}, the config says {index}")
