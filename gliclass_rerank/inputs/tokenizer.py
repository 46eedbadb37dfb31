"""A tokenizer whose state never changes and that text cannot trick into markers.

`transformers` only loads it; encoding calls the `tokenizers` object, whose truncation and padding are switched off
once. (A shared transformers tokenizer changes both on every call; under threads that gives wrong lengths.) Special
tokens written out in a text are encoded as ordinary characters.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Encoding, Tokenizer

from gliclass_rerank._transformers import IMPORTING
from gliclass_rerank.errors import CheckpointError
from gliclass_rerank.inputs.pieces import LABEL, MARKERS
from gliclass_rerank.types import TokenIds


class TextTokenizer:
    """Encodes pieces of text as they would be encoded between special tokens.

    Some tokenizers treat the beginning of a string differently from a piece after a special token (a prefix space).
    Upstream concatenates everything and tokenises once; to get the same ids piece by piece, each piece is encoded
    between two sentinels: added tokens of our own whose ids are dropped. They carry a random name, so no text can hold
    them.

    Args:
        tokenizer: Copied, not changed.

    Attributes:
        prefix_ids: Special tokens that open a sequence, such as [CLS].
        suffix_ids: Special tokens that close it, such as [SEP].
        source: The tokenizer as it was loaded, in the JSON format of the `tokenizers` library.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.source = tokenizer.to_str()
        state: dict[str, Any] = json.loads(self.source)  # Any: the tokenizers library's JSON
        self._markers: dict[str, int] = {token["content"]: token["id"] for token in state["added_tokens"]}
        label: dict[str, Any] = next((token for token in state["added_tokens"] if token["content"] == LABEL), {})
        self._tokenizer = Tokenizer.from_str(json.dumps(_without_spelled_specials(state)))
        self._tokenizer.encode_special_tokens = True
        self._sentinel = f"\ue000{uuid.uuid4().hex}\ue000"
        # Like the markers, so that a normaliser treats text beside a sentinel as it treats text beside a marker.
        traits = {trait: bool(label.get(trait)) for trait in ("lstrip", "rstrip", "normalized")}
        self._tokenizer.add_tokens([AddedToken(self._sentinel, special=False, **traits)])
        sentinel_id = self._tokenizer.token_to_id(self._sentinel)
        assert sentinel_id is not None, "added just now"
        frame = self._tokenizer.encode(f"{self._sentinel}x{self._sentinel}").ids
        if frame.count(sentinel_id) != 2:
            raise CheckpointError(
                "the tokenizer's normaliser breaks up its own markers; they must be added as special tokens"
            )
        opening, closing = frame.index(sentinel_id), len(frame) - frame[::-1].index(sentinel_id)
        self.prefix_ids: TokenIds = tuple(frame[:opening])
        self.suffix_ids: TokenIds = tuple(frame[closing:])

    def marker_id(self, marker: str) -> int | None:
        """Id of an added token, or None if this tokenizer does not have it."""
        return self._markers.get(marker)

    def token(self, index: int) -> str | None:
        """The token that has this id, or None."""
        named = (content for content, number in self._markers.items() if number == index)
        return next(named, None) or self._tokenizer.id_to_token(index)

    def encode(self, texts: Sequence[str]) -> list[TokenIds]:
        """Encode pieces that follow a special token.

        Args:
            texts: Any strings, empty ones included.

        Returns:
            Token ids without special tokens, one tuple a text.
        """
        framed = [f"{self._sentinel}{text}{self._sentinel}" for text in texts]
        encoded = self._tokenizer.encode_batch_fast(framed, add_special_tokens=False)
        return [tuple(encoding.ids[1:-1]) for encoding in encoded]

    def encode_sequences(self, texts: Sequence[str]) -> list[TokenIds]:
        """Encode whole texts, special tokens included.

        Args:
            texts: Any strings, empty ones included.

        Returns:
            Token ids, one tuple a text.
        """
        return [tuple(encoding.ids) for encoding in self._tokenizer.encode_batch_fast(list(texts))]

    def encode_with_spans(
        self, text: str, *, at_start: bool = False, at_end: bool = False
    ) -> tuple[TokenIds, list[tuple[int, int]]]:
        """Encode one piece and tell which characters each token covers.

        Args:
            text: Any string.
            at_start: Whether the piece opens the sequence instead of following a special token.
            at_end: Whether the piece closes the sequence instead of preceding a special token.

        Returns:
            Token ids without special tokens, and the (start, end) characters of each.
        """
        before, after = "" if at_start else self._sentinel, "" if at_end else self._sentinel
        encoding: Encoding = self._tokenizer.encode(f"{before}{text}{after}", add_special_tokens=False)
        kept = slice(0 if at_start else 1, None if at_end else -1)
        spans = [(start - len(before), end - len(before)) for start, end in encoding.offsets[kept]]
        return tuple(encoding.ids[kept]), spans


def _without_spelled_specials(state: dict[str, Any]) -> dict[str, Any]:  # Any: the tokenizers library's JSON
    """Change a tokenizer's state in place so that no text can spell a special token, and nothing is cut or padded."""
    state["truncation"] = state["padding"] = None
    for token in state["added_tokens"]:
        # Only special tokens can be read as ordinary text; some checkpoints add their markers as plain tokens.
        # Other plain tokens are no instructions to the model but its spelling, such as runs of spaces.
        token["special"] |= token["content"] in MARKERS
    if state["model"].get("type") == "Unigram":
        # Its vocabulary lists special tokens with the best score of all and finds them in a text by itself.
        pieces = state["model"]["vocab"]
        for token in state["added_tokens"]:
            if token["special"] and token["id"] < len(pieces):
                token["content"] = pieces[token["id"]][0] = f"\ue001{uuid.uuid4().hex}"
    return state


def load_tokenizer(folder: Path) -> TextTokenizer:
    """Load a tokenizer from a local folder.

    Args:
        folder: Holds `tokenizer.json` or another format that transformers can convert.

    Returns:
        The tokenizer.

    Raises:
        CheckpointError: No tokenizer there, or one without a fast implementation.
    """
    if _is_complete_json(folder):
        return TextTokenizer(_from_json(folder))
    with IMPORTING:
        from transformers import AutoTokenizer, PretrainedConfig  # here, because importing it takes a second

        try:
            # An empty config: the folder's own is of a type that transformers does not know and would warn about.
            loaded = AutoTokenizer.from_pretrained(
                str(folder), config=PretrainedConfig(), local_files_only=True, trust_remote_code=False
            )
        except (OSError, ValueError, KeyError) as error:
            raise CheckpointError(f"`{folder}` holds no tokenizer that transformers can load: {error}") from error
    backend = getattr(loaded, "backend_tokenizer", None)
    if backend is None:
        raise CheckpointError(f"the tokenizer in `{folder}` has no fast implementation; convert it to tokenizer.json")
    return TextTokenizer(backend)


def check_markers(tokenizer: TextTokenizer, expected: Mapping[str, int], *, optional: Iterable[str] = ()) -> None:
    """Check that the tokenizer gives markers the ids that the model's config names.

    Args:
        tokenizer: The checkpoint's tokenizer.
        expected: Id by marker.
        optional: Markers that older checkpoints do not have.

    Raises:
        CheckpointError: A marker is missing or has another id.
    """
    for marker, index in expected.items():
        found = tokenizer.marker_id(marker)
        if found is None and marker in optional:
            continue
        if found != index:
            raise CheckpointError(f"the tokenizer gives {marker} the id {found}, the config says {index}")


def _is_complete_json(folder: Path) -> bool:
    """Whether tokenizer.json says all: no class is named, or the generic one with no more than its padding token."""
    config = folder / "tokenizer_config.json"
    if not config.is_file():
        return True
    values: dict[str, Any] = json.loads(config.read_text(encoding="utf-8"))  # Any: JSON
    if "tokenizer_class" not in values:
        return True
    # As checkpoints are saved here.
    is_generic = values["tokenizer_class"] == "PreTrainedTokenizerFast" and (folder / "tokenizer.json").is_file()
    return is_generic and values.keys() <= {"tokenizer_class", "pad_token"}


def _from_json(folder: Path) -> Tokenizer:
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise CheckpointError(f"`{folder}` holds neither tokenizer.json nor a tokenizer_config.json naming a class")
    return Tokenizer.from_file(str(path))
