"""Prompt layout for every architecture and plan.

```
joint, prompt_first        [CLS] <<LABEL>>a <<LABEL>>b <<SEP>> prompt text rac few_shot [SEP]
joint, not prompt_first    [CLS] text rac <<LABEL>>a <<LABEL>>b <<SEP>> prompt few_shot [SEP]
fused, prompt_first        [CLS] prompt_ <<LABEL>><<LABEL>> <<SEP>> text rac few_shot [SEP]
fused, not prompt_first    [CLS] text rac prompt_ <<LABEL>><<LABEL>> <<SEP>> few_shot [SEP]
shared_query               [CLS] prompt text rac few_shot [SEP]   and, each on its own,   <<LABEL>>a [SEP]
bi-encoder                 [CLS] prompt_text [SEP]                and, each on its own,   [CLS] a [SEP]
```

Spaces are for the reader except `_`, which is one space; only upstream's spaces are added. A shared-query block has its
marker in place of the opening special token, so each block is a complete sequence for the backbone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gliclass_rerank.prompt.examples import ExampleFormat, few_shot_pieces, rac_pieces
from gliclass_rerank.prompt.pieces import EXAMPLE, LABEL, SEP, Marker, Piece, Text
from gliclass_rerank.prompt.tokenizer import TextTokenizer
from gliclass_rerank.types import Example, TokenIds


@dataclass(frozen=True)
class ScoringRequest:
    """Query with its candidates, as text.

    Attributes:
        text: Query, or text to classify.
        candidates: Passages or labels, in the caller's order.
        prompt: Task description, concatenated without a space as in upstream.
        examples: Judged examples, in prompt order.
        example_format: Format of examples; None for the checkpoint's.
        max_example_labels: Maximum labels (passages, when ranking) per example; None for all.
    """

    text: str
    candidates: Sequence[str]
    prompt: str = ""
    examples: tuple[Example, ...] = ()
    example_format: ExampleFormat | None = None
    max_example_labels: int | None = None


@dataclass(frozen=True)
class Encoded:
    """Token ids of one side of the prompt.

    Attributes:
        ids: Token ids.
        truncatable: First and past-the-last position of truncatable text; (0, 0) if none.
    """

    ids: TokenIds
    truncatable: tuple[int, int] = (0, 0)

    @property
    def num_truncatable(self) -> int:
        """Number of truncatable tokens."""
        return self.truncatable[1] - self.truncatable[0]

    def without(self, count: int, *, in_middle: bool = False) -> Encoded:
        """Copy without the last, or the middle, `count` truncatable tokens."""
        start, end = self.truncatable
        cut = start + (end - start - count + 1) // 2 if in_middle else end - count
        return Encoded(self.ids[:cut] + self.ids[cut + count :], (start, end - count))


@dataclass(frozen=True)
class Frame:
    """Prompt without its candidates.

    Attributes:
        head: Part before the candidates' markers.
        tail: Part after the separator.
    """

    head: Encoded
    tail: Encoded

    @property
    def num_truncatable(self) -> int:
        """Number of truncatable tokens."""
        return self.head.num_truncatable + self.tail.num_truncatable

    def without(self, count: int, *, in_middle: bool = False) -> Frame:
        """Copy without the last, or the middle, `count` truncatable tokens."""
        if self.head.num_truncatable:
            return Frame(self.head.without(count, in_middle=in_middle), self.tail)
        return Frame(self.head, self.tail.without(count, in_middle=in_middle))


class PromptLayout:
    """Prompt writer for one tokenizer.

    Args:
        tokenizer: Tokenizer of the text.
        prompt_first: Candidates come before (True) or after the text.

    Attributes:
        tokenizer: Tokenizer of the text.
        label_id: Id of the candidate marker; None for a bi-encoder's tokenizer, which has no markers.
        sep_id: Id of the separator; None for a bi-encoder's tokenizer.
    """

    def __init__(self, tokenizer: TextTokenizer, *, prompt_first: bool) -> None:
        self.tokenizer = tokenizer
        self.label_id = tokenizer.marker_id(LABEL)
        self.sep_id = tokenizer.marker_id(SEP)
        self._prompt_first = prompt_first
        self._default_format: ExampleFormat = "rac" if tokenizer.marker_id(EXAMPLE) is None else "few_shot"

    def example_format(self, request: ScoringRequest) -> ExampleFormat:
        """Format of a request's examples; `few_shot` for checkpoints with an example token."""
        return request.example_format or self._default_format

    def joint(self, request: ScoringRequest) -> Frame:
        """Frame of a uni-encoder's `joint` window."""
        text: list[Piece] = [Text(request.text, is_truncatable=True)]
        closing: list[Piece] = []
        if request.examples:
            following, closing = self._example_pieces(request)
            text += following
        if self._prompt_first:
            return Frame(Encoded(()), self._encode([Text(request.prompt), *text, *closing], at_end=True))
        return Frame(self._encode(text, at_start=True), self._encode([Text(request.prompt), *closing], at_end=True))

    def fused(self, request: ScoringRequest) -> Frame:
        """Frame of a fused bi-encoder's window."""
        text: list[Piece] = [Text(request.text, is_truncatable=True)]
        closing: list[Piece] = []
        if request.examples:
            following, closing = self._example_pieces(request)
            text += following
        prompt: list[Piece] = [Text(f"{request.prompt} ")] if request.prompt else []
        if self._prompt_first:
            return Frame(self._encode(prompt, at_start=True), self._encode([*text, *closing], at_end=True))
        return Frame(self._encode([*text, *prompt], at_start=True), self._encode(closing, at_end=True))

    def query_block(self, request: ScoringRequest) -> Encoded:
        """Query of `shared_query` without its special tokens."""
        text: list[Piece] = [Text(request.text, is_truncatable=True)]
        closing: list[Piece] = []
        if request.examples:
            following, closing = self._example_pieces(request)
            text += following
        return self._encode([Text(request.prompt), *text, *closing], at_start=True, at_end=True)

    def bare_text(self, request: ScoringRequest) -> Encoded:
        """Text of a bi-encoder without its special tokens."""
        prompt: list[Piece] = [Text(f"{request.prompt} ")] if request.prompt else []
        return self._encode([*prompt, Text(request.text, is_truncatable=True)], at_start=True, at_end=True)

    def beginning(self, text: str, num_tokens: int) -> str:
        """Characters of a text's first tokens; the whole text if it has no more."""
        _, spans = self.tokenizer.encode_with_spans(text)
        return text[: spans[num_tokens - 1][1]] if 0 < num_tokens < len(spans) else text if num_tokens else ""

    def _example_pieces(self, request: ScoringRequest) -> tuple[list[Piece], list[Piece]]:
        """Examples after the text, and examples at the end of the prompt."""
        if self.example_format(request) == "rac":
            return rac_pieces(request.examples), []
        return [], few_shot_pieces(request.examples)

    def _encode(self, pieces: Sequence[Piece], *, at_start: bool = False, at_end: bool = False) -> Encoded:
        """Encode pieces: marker ids, and runs of text between them, each encoded as a whole."""
        runs: list[int | str] = [""]
        cut: tuple[int, int, int] | None = None  # truncatable run and its characters
        for piece in pieces:
            index = self.tokenizer.marker_id(piece.name) if isinstance(piece, Marker) else None
            if index is not None:
                runs += [index, ""]
                continue
            text = piece.name if isinstance(piece, Marker) else piece.text
            if isinstance(piece, Text) and not piece.is_ours and "<<" in text:
                text = self.tokenizer.neutral(text)
            run = str(runs[-1])
            if isinstance(piece, Text) and piece.is_truncatable:
                cut = (len(runs) - 1, len(run), len(run) + len(text))
            runs[-1] = run + text
        return self._tokens(runs, cut, at_start=at_start, at_end=at_end)

    def _tokens(
        self, runs: Sequence[int | str], cut: tuple[int, int, int] | None, *, at_start: bool, at_end: bool
    ) -> Encoded:
        ids: list[int] = []
        truncatable, last = (0, 0), len(runs) - (2 if runs[-1] == "" else 1)
        for number, run in enumerate(runs):
            if isinstance(run, int):
                ids.append(run)
            elif run:
                tokens, spans = self.tokenizer.encode_with_spans(
                    run, at_start=at_start and number == 0, at_end=at_end and number == last
                )
                if cut is not None and cut[0] == number and cut[2] > cut[1]:
                    first, end = (sum(span[0] < limit for span in spans) for limit in cut[1:])
                    truncatable = (len(ids) + first, len(ids) + end)
                ids += tokens
        return Encoded(tuple(ids), truncatable)
