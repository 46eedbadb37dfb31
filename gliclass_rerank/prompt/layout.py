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
from gliclass_rerank.prompt.pieces import EXAMPLE, LABEL, SEP, Marker, Piece, Text
from gliclass_rerank.prompt.tokenizer import TextTokenizer
from gliclass_rerank.types import Example, TokenIds


@dataclass(frozen=True)
class ScoringRequest:
    """One query with its candidates, as text.

    Attributes:
        text: The query, or the text to classify.
        candidates: Passages or labels, in the caller's order.
        prompt: Task description; glued to what follows it, as upstream does.
        examples: Judged examples, in the order shown.
        example_format: How they are written; None for what the checkpoint was trained with.
        max_example_labels: Of one example so many labels (passages, when ranking) are shown at most; None for all.
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
        self._default_format: ExampleFormat = "rac" if tokenizer.marker_id(EXAMPLE) is None else "few_shot"

    def example_format(self, request: ScoringRequest) -> ExampleFormat:
        """How a request's examples are written; checkpoints with an example token were trained with `few_shot`."""
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
        """A `shared_query` query without its special tokens."""
        text: list[Piece] = [Text(request.text, is_truncatable=True)]
        closing: list[Piece] = []
        if request.examples:
            following, closing = self._example_pieces(request)
            text += following
        return self._encode([Text(request.prompt), *text, *closing], at_start=True, at_end=True)

    def bare_text(self, request: ScoringRequest) -> Encoded:
        """A bi-encoder's text without its special tokens."""
        prompt: list[Piece] = [Text(f"{request.prompt} ")] if request.prompt else []
        return self._encode([*prompt, Text(request.text, is_truncatable=True)], at_start=True, at_end=True)

    def beginning(self, text: str, num_tokens: int) -> str:
        """The characters of a text's first tokens; all of it if it has no more."""
        _, spans = self.tokenizer.encode_with_spans(text)
        return text[: spans[num_tokens - 1][1]] if 0 < num_tokens < len(spans) else text if num_tokens else ""

    def _example_pieces(self, request: ScoringRequest) -> tuple[list[Piece], list[Piece]]:
        """Examples that follow the text, and those that close the prompt."""
        if self.example_format(request) == "rac":
            return rac_pieces(request.examples), []
        return [], few_shot_pieces(request.examples)

    def _encode(self, pieces: Sequence[Piece], *, at_start: bool = False, at_end: bool = False) -> Encoded:
        """Tokens of pieces: marker ids, and runs of text between them, each encoded as a whole."""
        runs: list[int | str] = [""]
        cut: tuple[int, int, int] | None = None  # the run that may be cut, and its characters
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
