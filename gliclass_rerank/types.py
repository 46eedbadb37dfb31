"""Frozen values shared by all modules; no torch, no tokenizer.

The public ones are `Hit`, `Truncation`, `Ranking`, `StageHit`, `StageRanking`, `LabelScore`, `Classification` and
`Example`. `Window` and `Blocks` carry token ids from `prompt/` to the model: the border where text ends.
A *candidate* is what one marker stands for: a passage when ranking, a label when classifying.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, overload

from gliclass_rerank.checks import checked_list, checked_text, checked_texts, is_a, reading
from gliclass_rerank.errors import InputError, shown

TokenIds = tuple[int, ...]


@dataclass(frozen=True)
class Hit:
    """Ranked passage.

    Attributes:
        index: Position in the caller's list of passages.
        score: Probability of being relevant, in [0, 1]: sigmoid of the logit, calibrated if the checkpoint is. Same
            order as the logits.
        logit: Raw model output; unbounded, and without ties where scores saturate.
    """

    index: int
    score: float
    logit: float


@dataclass(frozen=True)
class Truncation:
    """Truncation of a passage, an example or a classified text.

    Attributes:
        index: Position in the caller's list.
        num_tokens: Original number of tokens.
        num_lost: Tokens cut from the end.
    """

    index: int
    num_tokens: int
    num_lost: int


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
    """Hits, highest logit first, ties by index.

    Attributes:
        hits: Ranked passages, at most `top_k`.
        truncated: Truncated passages by index, among all passages, not only the hits.
        windows: Indices of passages that saw each other, per window; empty under `shared_query`. Equal passages appear
            under their first index.
        truncated_examples: Truncated or dropped examples, by index in `examples`.
        examples: Judged examples in prompt order before truncation, given or found in the store; empty without
            passages.
        answerable: Probability that any of the passages answers the query, in [0, 1], among all passages, not only the
            hits; None if the checkpoint is not calibrated for it.
    """

    truncated: tuple[Truncation, ...] = ()
    windows: tuple[tuple[int, ...], ...] = ()
    truncated_examples: tuple[Truncation, ...] = ()
    examples: tuple[Example, ...] = ()
    answerable: float | None = None


@dataclass(frozen=True)
class StageHit:
    """Passage after the stage.

    Attributes:
        index: Position in the caller's list of passages.
        score: Sort key in [0, 1]: the reranker's or the fused score; None if the retriever's order was kept.
        rerank_score: The reranker's score in [0, 1]; 0 for a blank passage, which the model never sees.
        retrieval_score: The retriever's score, if given.
        tokens_lost: Tokens cut from the passage's end.
    """

    index: int
    score: float | None
    rerank_score: float | None = None
    retrieval_score: float | None = None
    tokens_lost: int = 0


@dataclass(frozen=True)
class StageRanking(_Hits[StageHit]):
    """Hits, best first: blank passages last, ties in the retriever's order.

    Attributes:
        hits: Passages above the thresholds, at most `top_k`.
        error: Reason for keeping the retriever's order, in one sentence; None if reranked.
        answerable: See `Ranking.answerable`; None also if the order was kept or no text was ranked.
    """

    error: str | None = None
    answerable: float | None = None


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
    """

    truncated: Truncation | None = None
    truncated_examples: tuple[Truncation, ...] = ()
    examples: tuple[Example, ...] = ()


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
            InputError: `value` is not an example, or a field has the wrong type.
        """
        if is_a(value, cls):
            return value  # type: ignore[return-value] # one
        if not is_a(value, Mapping):
            raise InputError(f"an example must be an `Example` or a mapping, got {shown(value)}")
        with reading("an example"):
            fields = dict(value)  # type: ignore[arg-type] # a mapping
            if "text" not in fields:
                raise InputError(f"an example needs the key `text`, got the keys {shown(sorted(map(str, fields)))}")
        true_labels = _label_tuple("true_labels", fields.get("labels", fields.get("true_labels", ())))
        all_labels = _label_tuple("all_labels", fields.get("all_labels", ()))
        known = set(true_labels)
        false_labels = fields.get("false_labels", tuple(label for label in all_labels if label not in known))
        return cls(fields["text"], true_labels, false_labels)

    @classmethod
    def list_of(cls, values: Sequence[Example | Mapping[str, Any]] | None) -> tuple[Example, ...]:
        """Read a list of examples, None for none; an `InputError` if it is not a list or an item is not an example."""
        if values is None:
            return ()
        return tuple(cls.of(value) for value in checked_list("examples", values, "examples"))

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

    @property
    def num_tokens(self) -> int:
        """Tokens that encoders read, without padding."""
        return len(self.token_ids) + sum(map(len, self.candidate_ids))


@dataclass(frozen=True)
class Blocks:
    """Query and candidates as separate sequences (`shared_query` plan and bi-encoders).

    Attributes:
        query_ids: Sequence of the query.
        candidate_ids: One sequence per candidate.
    """

    query_ids: TokenIds
    candidate_ids: tuple[TokenIds, ...]

    @property
    def num_tokens(self) -> int:
        """Tokens that encoders read, without padding."""
        return len(self.query_ids) + sum(map(len, self.candidate_ids))
