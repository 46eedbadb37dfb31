"""Frozen values shared by all modules; no torch, no tokenizer.

The public ones are `Hit`, `Span`, `Truncation`, `UnknownTokens`, `Ranking`, `StageHit`, `StageRanking`, `LabelScore`,
`Classification` and `Example`. `Window` and `Blocks` carry token ids from `prompt/` to the model: the border where text
ends.
A *candidate* is what one marker stands for: a passage when ranking, a label when classifying.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from difflib import get_close_matches
from typing import Any, Final, Literal, TypeVar, overload

from gliclass_rerank.checks import checked_list, checked_text, checked_texts, is_a, reading
from gliclass_rerank.errors import InputError, listed, shown

TokenIds = tuple[int, ...]
Judged = Literal["relevant", "irrelevant"]
# Text, or a document with `text`, and perhaps `id` and `metadata`.
Passage = str | Mapping[str, Any]  # Any: JSON
# First and past-the-last position.
Extent = tuple[int, int]
# Of an example as a mapping, ours and upstream's.
_EXAMPLE_KEYS: Final = ("text", "labels", "true_labels", "false_labels", "all_labels")


@dataclass(frozen=True)
class Span:
    """Sentence of a passage with its relevance.

    Attributes:
        start: First character in the caller's text.
        end: Past-the-last character.
        score: Probability of being relevant on its own, in [0, 1].
    """

    start: int
    end: int
    score: float


@dataclass(frozen=True)
class Hit:
    """Ranked passage.

    Attributes:
        index: Position in the caller's list of passages.
        score: Probability of being relevant, in [0, 1]: sigmoid of the logit, calibrated if the checkpoint is. Same
            order as the logits. 1 for a passage judged relevant to this very query, 0 for one judged irrelevant.
        logit: Raw model output; unbounded, and without ties where scores saturate. Not in the repr.
        text: The passage, in valid Unicode.
        id: Id of a passage that was given as a document; None without one.
        metadata: Metadata of a passage that was given as a document; the caller's object.
        chunk: First and past-the-last character of the best chunk, if the passage was split
            (`long_passages="best_chunk"`); None for a whole passage.
        judged: Judgement of the passage for this very query in the example store; None for none.
        spans: Sentences by descending score; they cover all but the white space between them. None unless asked for.
        repeats: Index of a passage before this one that says much the same; None for none, or unless `diversity` is
            given.
        carried_over: Log-odds that judgements of similar queries added; None for none.
    """

    index: int
    score: float
    logit: float = field(repr=False)
    text: str = ""
    id: str | int | None = None
    metadata: Mapping[str, Any] | None = None  # Any: the caller's
    chunk: Extent | None = None
    judged: Judged | None = None
    spans: tuple[Span, ...] | None = None
    repeats: int | None = None
    carried_over: float | None = None

    def as_judged(self, judged: Judged) -> Hit:
        """Return a copy with a judgement, which decides the score: 1 if relevant, else 0."""
        return replace(self, score=float(judged == "relevant"), judged=judged)

    def to_dict(self) -> dict[str, Any]:  # Any: JSON
        """Convert to a new dict of JSON values, if the metadata are; what is None is left out."""
        values = {"index": self.index, "score": self.score, "logit": self.logit, "text": self.text}
        given = {
            "id": self.id,
            "metadata": None if self.metadata is None else dict(self.metadata),
            "chunk": None if self.chunk is None else list(self.chunk),
            "judged": self.judged,
            "spans": None if self.spans is None else [asdict(span) for span in self.spans],
            "repeats": self.repeats,
            "carried_over": self.carried_over,
        }
        return values | {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class Truncation:
    """Truncation of a query, a passage, an example or a classified text.

    Attributes:
        index: Position in the caller's list.
        num_tokens: Original number of tokens.
        num_lost: Tokens cut: from a query's middle, else from the end.
    """

    index: int
    num_tokens: int
    num_lost: int


@dataclass(frozen=True)
class UnknownTokens:
    """Tokens of a text that stand for words or characters that the model does not know.

    Attributes:
        index: Position of a passage in the caller's list; None for the query.
        num_tokens: Number of tokens before any cut.
        num_unknown: Number of unknown ones.
    """

    index: int | None
    num_tokens: int
    num_unknown: int


HitT_co = TypeVar("HitT_co", covariant=True)


@dataclass(frozen=True)
class _Hits(Sequence[HitT_co]):
    """A result is the sequence of its hits."""

    hits: tuple[HitT_co, ...]

    @overload
    def __getitem__(self, position: int) -> HitT_co: ...

    @overload
    def __getitem__(self, position: slice) -> tuple[HitT_co, ...]: ...

    def __getitem__(self, position: int | slice) -> HitT_co | tuple[HitT_co, ...]:
        return self.hits[position]

    def __len__(self) -> int:
        return len(self.hits)

    def __iter__(self) -> Iterator[HitT_co]:
        return iter(self.hits)


@dataclass(frozen=True)
class Ranking(_Hits[Hit]):
    """Hits: judged relevant ones, others, judged irrelevant ones; each by descending logit, ties by index.

    Attributes:
        hits: Ranked passages, at most `top_k`.
        truncated: Truncated passages by index, among all passages, not only the hits.
        windows: Indices of passages that saw each other, per window; empty under `shared_query`. Equal passages appear
            under their first index.
        truncated_examples: Truncated or dropped examples, by index in `examples`.
        examples: Judged examples: those shown, in prompt order before truncation, then those of the store that judge a
            passage of the list, whose judgements are carried over; empty without passages.
        truncated_query: Truncation of the query's middle (index 0); None if it is whole.
        repaired: Passages with invalid Unicode, which U+FFFD replaced, by index.
        repaired_query: True if the query had invalid Unicode.
        id: Id in the feedback log, for clicks, ratings and grades; None without a log.
        num_tokens: Tokens read of query, examples and distinct passages, by a cascade's first model.
        answerable: Probability that any of the passages answers the query, in [0, 1], among all passages, not only the
            hits; 1 with a passage judged relevant to this very query. None if the checkpoint is not calibrated for it.
        unknown: Texts with tokens unknown to the model, the query first; words that became one unknown token.
        warnings: Sentences on texts that the model can hardly read: mostly of unknown tokens, or of a script that its
            vocabulary was not made for. Each kind is logged once.
    """

    truncated: tuple[Truncation, ...] = ()
    windows: tuple[tuple[int, ...], ...] = ()
    truncated_examples: tuple[Truncation, ...] = ()
    examples: tuple[Example, ...] = ()
    truncated_query: Truncation | None = None
    repaired: tuple[int, ...] = ()
    repaired_query: bool = False
    id: str | None = None
    num_tokens: int = 0
    answerable: float | None = None
    unknown: tuple[UnknownTokens, ...] = ()
    warnings: tuple[str, ...] = ()

    def to_list(self) -> list[dict[str, Any]]:  # Any: JSON
        """Convert the hits to dicts, best first; see `Hit.to_dict`."""
        return [hit.to_dict() for hit in self.hits]


@dataclass(frozen=True)
class StageHit:
    """Passage after the stage.

    Attributes:
        index: Position in the caller's list of passages.
        score: Sort key in [0, 1]: the reranker's or the fused score; None if the retriever's order was kept.
        rerank_score: The reranker's score in [0, 1]; 0 for a blank passage, which the model never sees.
        retrieval_score: The retriever's score, if given.
        tokens_lost: Tokens cut from the passage's end.
        chunk: First and past-the-last character of the best chunk, if the passage was split; None for a whole one.
        is_repaired: True if U+FFFD replaced invalid Unicode, or the passage was no string, which counts as blank.
        judged: Judgement of the passage for this very query in the example store; None for none. It counts more than
            any score.
        logit: Raw output of the reranker; None for a blank passage, or if the retriever's order was kept.
    """

    index: int
    score: float | None
    rerank_score: float | None = None
    retrieval_score: float | None = None
    tokens_lost: int = 0
    chunk: Extent | None = None
    is_repaired: bool = False
    judged: Judged | None = None
    logit: float | None = None

    def as_judged(self, judged: Judged) -> StageHit:
        """Return a copy with a judgement, which decides the scores: 1 if relevant, else 0."""
        score = float(judged == "relevant")
        return replace(self, score=score, rerank_score=score, judged=judged)


@dataclass(frozen=True)
class StageRanking(_Hits[StageHit]):
    """Hits, best first: blank passages last, ties in the retriever's order.

    Attributes:
        hits: Passages above the thresholds, at most `top_k`.
        error: Reason for keeping the retriever's order, in one sentence; None if reranked.
        query_tokens_lost: Tokens cut from the query's middle, prefix included.
        repaired_query: True if U+FFFD replaced invalid Unicode in the query.
        id: Id in the feedback log, for clicks, ratings and grades; None without a log.
        answerable: See `Ranking.answerable`; None also if the order was kept or no text was ranked.
        warnings: See `Ranking.warnings`.
    """

    error: str | None = None
    query_tokens_lost: int = 0
    repaired_query: bool = False
    id: str | None = None
    answerable: float | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class LabelScore:
    """Predicted label.

    Attributes:
        label: The caller's label (hierarchies joined by dots).
        score: Probability in [0, 1] that the label applies, or softmax over the labels if exactly one does.
        index: Position in the flattened list of labels.
    """

    label: str
    score: float
    index: int


@dataclass(frozen=True)
class Classification(_Hits[LabelScore]):
    """Predicted labels of one text, in the caller's order.

    Attributes:
        hits: The labels that apply.
        truncated: The text, if it was cut, with its position in the caller's list; None if it is whole.
        truncated_examples: Examples that were cut or left out to fit their budget, by index in `examples`.
        examples: The judged examples that were to be shown, given by hand or found in the store, in the order shown
            and before any cut.
        scores: Score of every label, in the order of the flattened list.
        num_chunks: Number of chunks that the text was read in; 1 for a text that fits its window or was cut to it.
        is_repaired: True if U+FFFD replaced invalid Unicode in the text.
    """

    truncated: Truncation | None = None
    truncated_examples: tuple[Truncation, ...] = ()
    examples: tuple[Example, ...] = ()
    scores: tuple[float, ...] = ()
    num_chunks: int = 1
    is_repaired: bool = False


@dataclass(frozen=True)
class Example:
    """Judged example shown to the model (retrieval-augmented classification).

    When ranking, `text` is an earlier query, and the labels are passages judged relevant or irrelevant.

    Attributes:
        text: Text or query of the example.
        true_labels: Labels that apply, in prompt order.
        false_labels: Labels that do not apply. Shown by the `rac` format only.
    """

    text: str
    true_labels: tuple[str, ...] = ()
    false_labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", checked_text("an example's `text`", self.text))
        object.__setattr__(self, "true_labels", _label_tuple("true_labels", self.true_labels))
        object.__setattr__(self, "false_labels", _label_tuple("false_labels", self.false_labels))

    @classmethod
    def of(cls, value: Example | Mapping[str, Any]) -> Example:
        """Read an example.

        Args:
            value: An `Example`, or a mapping in upstream's format with `text`, `labels` (else `true_labels`), and
                optionally `false_labels` (else the rest of `all_labels`).

        Returns:
            The example.

        Raises:
            InputError: `value` is not an example, a field has the wrong type, or a mapping has an unknown key, a blank
                text or no label.
        """
        if is_a(value, cls):
            return value  # type: ignore[return-value] # one
        if not is_a(value, Mapping):
            raise InputError(f"an example must be an `Example` or a mapping, got {shown(value)}")
        with reading("an example"):
            fields = dict(value)  # type: ignore[arg-type] # a mapping
            if "text" not in fields:
                raise InputError(f"an example needs the key `text`, got the keys {shown(sorted(map(str, fields)))}")
            if unknown := next((key for key in fields if key not in _EXAMPLE_KEYS), None):
                near = get_close_matches(str(unknown), _EXAMPLE_KEYS, n=1)
                hint = f"; did you mean `{near[0]}`?" if near else f"; known are {listed(_EXAMPLE_KEYS)}"
                raise InputError(f"an example has no key {shown(unknown)}{hint}")
        true_labels = _label_tuple("true_labels", fields.get("labels", fields.get("true_labels", ())))
        all_labels = _label_tuple("all_labels", fields.get("all_labels", ()))
        known = set(true_labels)
        false_labels = fields.get("false_labels", tuple(label for label in all_labels if label not in known))
        return cls(fields["text"], true_labels, false_labels).complete()

    @classmethod
    def list_of(cls, values: Sequence[Example | Mapping[str, Any]] | None) -> tuple[Example, ...]:
        """Read a list of examples, None for none; an `InputError` if it is not a list or an item is not an example."""
        if values is None:
            return ()
        return tuple(cls.of(value) for value in checked_list("examples", values, "examples"))

    def complete(self) -> Example:
        """Return this example; an `InputError` if it would show nothing: its text is blank, or it has no label."""
        if not self.text.strip():
            raise InputError(f"an example's `text` must not be blank, got {shown(self.text)}")
        if not any(label.strip() for label in (*self.true_labels, *self.false_labels)):
            raise InputError(
                f"an example needs a label in `true_labels` or `false_labels`, got {shown(self.text)} without one"
            )
        return self

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON values, which `of` reads back."""
        return {"text": self.text, "true_labels": [*self.true_labels], "false_labels": [*self.false_labels]}


def _label_tuple(field: str, labels: object) -> tuple[str, ...]:
    if is_a(labels, str):
        return (checked_text(f"`examples.{field}`", labels),)
    return checked_texts(f"examples.{field}", labels)


@dataclass(frozen=True)
class Window:
    """Sequence with a query and several candidates: one row of a `joint` forward pass.

    Attributes:
        token_ids: Whole sequence, special tokens included.
        markers: Marker positions, ascending.
        text_start: Position of the first separator.
        candidate_ids: Label encoder input in marker order (`bi-encoder-fused` only).
    """

    token_ids: TokenIds
    markers: tuple[int, ...]
    text_start: int
    candidate_ids: tuple[TokenIds, ...] = ()


@dataclass(frozen=True)
class Blocks:
    """Query and candidates as separate sequences (`shared_query` plan and bi-encoders).

    Attributes:
        query_ids: Sequence of the query.
        candidate_ids: One sequence per candidate.
    """

    query_ids: TokenIds
    candidate_ids: tuple[TokenIds, ...]
