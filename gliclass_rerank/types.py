"""Frozen values that cross module borders; no torch, no tokenizer.

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
    """One ranked passage.

    Attributes:
        index: Position in the caller's list of passages.
        logit: Raw model output; unbounded, comparable within one ranking.
        score: The logit as a probability, in [0, 1]: its sigmoid, of a calibrated checkpoint that of slope * logit +
            intercept. Same order as the logits.
    """

    index: int
    logit: float
    score: float


@dataclass(frozen=True)
class Truncation:
    """A passage (or an example; when classifying, a text) that did not fit its window.

    Attributes:
        index: Position in the caller's list.
        num_tokens: Tokens it has.
        num_lost: Tokens cut from its end.
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
        hits: The ranked passages, at most `top_k` of them.
        truncated: Passages that were cut, by index; covers all passages, not only the returned ones.
        windows: Indices of the passages that saw each other, window by window; empty when every passage was
            scored alone (`shared_query` plan). Equal passages are scored once, under their first index.
        truncated_examples: Examples that were cut or left out to fit their budget, by index in `examples`.
        examples: The judged examples that were to be shown, given by hand or found in the store, in the order shown
            and before any cut; none if there was no passage.
    """

    truncated: tuple[Truncation, ...] = ()
    windows: tuple[tuple[int, ...], ...] = ()
    truncated_examples: tuple[Truncation, ...] = ()
    examples: tuple[Example, ...] = ()


@dataclass(frozen=True)
class StageHit:
    """One passage after the stage.

    Attributes:
        index: Position in the caller's list of passages.
        score: What the order goes by: the reranker's score, or the fused one; in [0, 1]. None if the retriever's order
            was kept.
        rerank_score: The reranker's own score in [0, 1]; 0 for a blank passage, which the model never sees.
        retrieval_score: What the retriever gave, if it was passed in.
        tokens_lost: Tokens cut from the passage's end to fit the window.
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
        hits: What passed the threshold, at most `top_k` of it.
        error: Why the retriever's order was kept, in one sentence; None if the passages were reranked.
    """

    error: str | None = None


@dataclass(frozen=True)
class LabelScore:
    """One predicted label.

    Attributes:
        label: The label as the caller wrote it (hierarchies joined by dots).
        score: Sigmoid of the logit, or softmax over the labels when exactly one label applies; in [0, 1].
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
    """A judged example that is shown to the model beside the query (retrieval-augmented classification).

    When ranking, `text` is an earlier query, `true_labels` are passages judged relevant to it and `false_labels`
    passages judged irrelevant.

    Attributes:
        text: The example's text or query.
        true_labels: What applies to it, in the order shown to the model.
        false_labels: What does not apply to it. Shown by the `rac` format only.
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
        """Read an example from an `Example` or from a mapping in upstream's format.

        Args:
            value: An `Example`, or a mapping with `text`, `labels` (else `true_labels`), and optionally
                `false_labels` (else those of `all_labels` that are not true, in their order).

        Returns:
            The example; `value` is not changed.

        Raises:
            InputError: Not an example, or a field of the wrong type.
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
        """Read a list of examples.

        Args:
            values: What `of` reads; None for none.

        Returns:
            The examples in their order.

        Raises:
            InputError: Not a list, or something in it is not an example.
        """
        if values is None:
            return ()
        return tuple(cls.of(value) for value in checked_list("examples", values, "examples"))

    def to_dict(self) -> dict[str, Any]:
        """The example as JSON values, which `of` reads back; the lists are the caller's."""
        return {"text": self.text, "true_labels": [*self.true_labels], "false_labels": [*self.false_labels]}


def _label_tuple(field: str, labels: object) -> tuple[str, ...]:
    if is_a(labels, str):
        return (checked_text(f"`examples.{field}`", labels),)
    return checked_texts(f"examples.{field}", labels)


@dataclass(frozen=True)
class Window:
    """One sequence that holds the query and several candidates: one row of a `joint` forward pass.

    Attributes:
        token_ids: The whole sequence, special tokens included.
        markers: Position of each candidate's marker, ascending.
        text_start: Position of the first separator.
        candidate_ids: Token ids of the candidates for the label encoder, in marker order; used by the
            `bi-encoder-fused` architecture only.
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
    """A query and its candidates as sequences of their own (`shared_query` plan and bi-encoders).

    Attributes:
        query_ids: The query's sequence.
        candidate_ids: One sequence per candidate.
    """

    query_ids: TokenIds
    candidate_ids: tuple[TokenIds, ...]

    @property
    def num_tokens(self) -> int:
        """Tokens that encoders read, without padding."""
        return len(self.query_ids) + sum(map(len, self.candidate_ids))
