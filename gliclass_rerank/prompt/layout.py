"""Where everything goes in a prompt, for every architecture and plan. No spaces are added that upstream does not add.

```
joint, prompt_first        [CLS] <<LABEL>>a <<LABEL>>b <<SEP>> prompt text rac few_shot [SEP]
joint, not prompt_first    [CLS] text rac <<LABEL>>a <<LABEL>>b <<SEP>> prompt few_shot [SEP]
fused, prompt_first        [CLS] prompt_ <<LABEL>><<LABEL>> <<SEP>> text rac few_shot [SEP]
fused, not prompt_first    [CLS] text rac prompt_ <<LABEL>><<LABEL>> <<SEP>> few_shot [SEP]
shared_query               [CLS] prompt text rac few_shot [SEP]   and, each on its own,   <<LABEL>>a [SEP]
bi-encoder                 [CLS] prompt_text [SEP]                and, each on its own,   [CLS] a [SEP]
```

Spaces in the table are for the reader except `_`, which is one space. A shared-query block has the marker in the place
of its opening special token, so each block is a complete sequence in the backbone's eyes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gliclass_rerank.prompt.examples import ExampleFormat, few_shot_pieces, rac_pieces
from gliclass_rerank.prompt.pieces import EXAMPLE, LABEL, MARKERS, SEP, Marker, Piece, Text
from gliclass_rerank.prompt.tokenizer import TextTokenizer
from gliclass_rerank.types import Example, TokenIds


@dataclass(frozen=True, kw_only=True)
class ScoringRequest:
    """One query with its candidates, as text.

    Attributes:
        text: The query, or the text to classify.
        candidates: Passages or labels, in the caller's order.
        prompt: Task description; glued to what follows it, as upstream does.
        examples: Judged examples, in the order shown.
        example_format: How they are written.
        max_example_labels: Of one example so many labels (passages, when ranking) are shown at most; None for all.
    """

    text: str
    candidates: Sequence[str]
    prompt: str = ""
    examples: tuple[Example, ...] = ()
    example_format: ExampleFormat = "rac"
    max_example_labels: int | None = None


@dataclass(frozen=True)
class Encoded:
    """Token ids of one side of the prompt.

    Attributes:
        ids: The tokens.
        truncatable: First and past-the-last token of the text that may be cut; (0, 0) if none.
    """

    ids: TokenIds
    truncatable: tuple[int, int] = (0, 0)

    @property
    def num_truncatable(self) -> int:
        """How many tokens may be cut."""
        return self.truncatable[1] - self.truncatable[0]

    def without(self, count: int) -> Encoded:
        """A copy that lost `count` tokens at the end of its truncatable text."""
        start, end = self.truncatable
        return Encoded(self.ids[: end - count] + self.ids[end:], (start, end - count))


@dataclass(frozen=True)
class Frame:
    """A prompt without its candidates.

    Attributes:
        head: What precedes the candidates' markers.
        tail: What follows the separator.
    """

    head: Encoded
    tail: Encoded

    @property
    def num_truncatable(self) -> int:
        """How many tokens of text may be cut."""
        return self.head.num_truncatable + self.tail.num_truncatable

    def without(self, count: int) -> Frame:
        """A copy whose text lost `count` tokens at its end."""
        if self.head.num_truncatable:
            return Frame(self.head.without(count), self.tail)
        return Frame(self.head, self.tail.without(count))


class PromptLayout:
    """Writes prompts as token ids for one tokenizer.

    Args:
        tokenizer: The tokenizer.
        prompt_first: Candidates come before (True) or after the text.

    Attributes:
        tokenizer: The tokenizer.
        label_id: Id of the candidate marker; None for a bi-encoder's tokenizer, which has no markers.
        sep_id: Id of the separator; None likewise.
    """

    def __init__(self, tokenizer: TextTokenizer, *, prompt_first: bool) -> None:
        self.tokenizer = tokenizer
        self.label_id = tokenizer.marker_id(LABEL)
        self.sep_id = tokenizer.marker_id(SEP)
        self._prompt_first = prompt_first
        self._spelled_out = [marker for marker in MARKERS if tokenizer.marker_id(marker) is None]

    @property
    def default_example_format(self) -> ExampleFormat:
        """What the checkpoint was trained with: it has an example token, or it does not."""
        return "rac" if self.tokenizer.marker_id(EXAMPLE) is None else "few_shot"

    def joint(self, ask: ScoringRequest) -> Frame:
        """Frame of a uni-encoder's `joint` window."""
        text, closing = _text_pieces(ask)
        if self._prompt_first:
            return Frame(Encoded(()), self._encode([Text(ask.prompt), *text, *closing], at_end=True))
        return Frame(self._encode(text, at_start=True), self._encode([Text(ask.prompt), *closing], at_end=True))

    def fused(self, ask: ScoringRequest) -> Frame:
        """Frame of a fused bi-encoder's window."""
        text, closing = _text_pieces(ask)
        prompt: list[Piece] = [Text(f"{ask.prompt} ")] if ask.prompt else []
        if self._prompt_first:
            return Frame(self._encode(prompt, at_start=True), self._encode([*text, *closing], at_end=True))
        return Frame(self._encode([*text, *prompt], at_start=True), self._encode(closing, at_end=True))

    def query_block(self, ask: ScoringRequest) -> Encoded:
        """A `shared_query` query without its special tokens."""
        text, closing = _text_pieces(ask)
        return self._encode([Text(ask.prompt), *text, *closing], at_start=True, at_end=True)

    def bare_text(self, ask: ScoringRequest) -> Encoded:
        """A bi-encoder's text without its special tokens."""
        prompt: list[Piece] = [Text(f"{ask.prompt} ")] if ask.prompt else []
        return self._encode([*prompt, Text(ask.text, is_elastic=True)], at_start=True, at_end=True)

    def candidates(self, texts: Sequence[str]) -> list[TokenIds]:
        """Token ids of candidates as they follow their markers, markers not included."""
        return self.tokenizer.encode([self._neutral(text) for text in texts])

    def beginning(self, text: str, num_tokens: int) -> str:
        """The characters of a text's first tokens; all of it if it has no more."""
        _, spans = self.tokenizer.encode_with_spans(text)
        return text[: spans[num_tokens - 1][1]] if 0 < num_tokens < len(spans) else text if num_tokens else ""

    def _encode(self, pieces: Sequence[Piece], *, at_start: bool = False, at_end: bool = False) -> Encoded:
        ids: list[int] = []
        truncatable = (0, 0)
        runs = self._runs(pieces)
        for number, run in enumerate(runs, start=1):
            if isinstance(run, int):
                ids.append(run)
                continue
            text, (start, end) = run
            tokens, spans = self.tokenizer.encode_with_spans(
                text, at_start=at_start and number == 1, at_end=at_end and number == len(runs)
            )
            if end > start:
                first = sum(span[0] < start for span in spans)
                truncatable = (len(ids) + first, len(ids) + sum(span[0] < end for span in spans))
            ids += tokens
        return Encoded(tuple(ids), truncatable)

    def _runs(self, pieces: Sequence[Piece]) -> list[int | tuple[str, tuple[int, int]]]:
        """Marker ids, and maximal runs of text between them with the characters that are truncatable."""
        runs: list[int | tuple[str, tuple[int, int]]] = []
        text, truncatable = "", (0, 0)
        for piece in pieces:
            index = self.tokenizer.marker_id(piece.name) if isinstance(piece, Marker) else None
            if index is not None:
                runs += [(text, truncatable)] if text else []
                runs.append(index)
                text, truncatable = "", (0, 0)
            elif isinstance(piece, Marker):
                text += piece.name
            else:
                start = len(text)
                text += piece.text if piece.is_ours else self._neutral(piece.text)
                truncatable = (start, len(text)) if piece.is_elastic else truncatable
        return [*runs, (text, truncatable)] if text else runs

    def _neutral(self, text: str) -> str:
        """Break up marker strings that the prompt itself would have to spell out; real tokens need no such care."""
        for marker in self._spelled_out:
            while marker in text:  # a loop, because the brackets around one marker may make another one
                text = text.replace(marker, marker[1:-1])
        return text


def _text_pieces(ask: ScoringRequest) -> tuple[list[Piece], list[Piece]]:
    """The text with what belongs to it, and what closes the prompt."""
    text: list[Piece] = [Text(ask.text, is_elastic=True)]
    if ask.example_format == "rac":
        return [*text, *rac_pieces(ask.examples)], []
    return text, few_shot_pieces(ask.examples)
