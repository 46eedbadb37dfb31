"""Settings of training data: sources with their losses and augmentation, and dev sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gliclass_rerank.errors import ConfigError
from gliclass_rerank.learn.training.config_checks import check_at_least, check_positive, check_share

Kind = Literal["ranking", "classification"]
SourceKind = Literal["ranking", "classification", "texts"]
LossName = Literal[
    "listwise", "bce", "focal", "mse", "margin_mse", "ranknet", "kl", "contrastive", "relational", "policy"
]
Unjudged = Literal["ignore", "negative"]

FIGURES: Mapping[Kind, tuple[str, ...]] = {
    "ranking": ("ndcg@10", "mrr@10"),
    "classification": ("macro_f1", "accuracy"),
}
"""Metrics of each kind of dev set; the first one is the default for selection."""


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Loss term of a source.

    Attributes:
        name: Name of the loss, see `gliclass_rerank.learn.training.losses`.
        weight: Factor of the term.
        temperature: Divisor of the logits (`contrastive`, `relational`: cosines).
        teachers: Teachers whose scores are the target, standardised per list and averaged; empty for the grades. Of
            `relational` those whose cosines are, averaged. Of `policy` the one whose logits showed the lists.
        teacher_temperature: Divisor of the teachers' scores.
        gamma: Exponent of `focal`.
        alpha: Weight of the positives in `focal`; None for unweighted.
        samples: Rankings sampled by `policy` per list.
        clip: Largest change of a choice's probability that `policy` rewards, as a share.
    """

    name: LossName
    weight: float = 1.0
    temperature: float = 1.0
    teachers: tuple[str, ...] = ()
    teacher_temperature: float = 1.0
    gamma: float = 2.0
    alpha: float | None = None
    samples: int = 16
    clip: float = 0.2

    def __post_init__(self) -> None:
        check_positive("temperature", self.temperature)
        check_positive("clip", self.clip)
        check_at_least("samples", self.samples, 2)
        check_positive("teacher_temperature", self.teacher_temperature)
        check_at_least("weight", self.weight, 0)
        check_at_least("gamma", self.gamma, 0)
        if self.alpha is not None:
            check_share("alpha", self.alpha)
        if self.name == "contrastive" and self.teachers:
            raise ConfigError(f"the loss `contrastive` has no target, so it takes no teachers, got {[*self.teachers]}")
        if self.name == "relational" and not self.teachers:
            raise ConfigError("the loss `relational` needs `teachers`, whose vectors are its target")
        if self.name == "policy" and len(self.teachers) != 1:
            raise ConfigError(
                f"the loss `policy` needs one of `teachers`, whose logits showed the lists, got {[*self.teachers]}"
            )

    @property
    def wants_vectors(self) -> bool:
        """True if the term compares candidate vectors in place of logits."""
        return self.name in {"contrastive", "relational"}


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Random augmentation of a source's records; numbers are probabilities unless noted.

    Attributes:
        lower_case: Lower-case the query or text.
        drop_question_words: Drop the query's English question words.
        drop_stop_words: Drop the query's English stop words, question words included.
        cut_passages: Cut each passage (or text to classify) to a random run of at least a third of its words.
        max_examples: Upper limit of a random number of examples; None shows all.
        random_examples: Replace each drawn example by another record of the source.
        drop_false_labels: Hide the false labels of examples that have true ones.
    """

    lower_case: float = 0.0
    drop_question_words: float = 0.0
    drop_stop_words: float = 0.0
    cut_passages: float = 0.0
    max_examples: int | None = None
    random_examples: float = 0.0
    drop_false_labels: float = 0.0

    def __post_init__(self) -> None:
        for name in ("lower_case", "drop_question_words", "drop_stop_words", "cut_passages"):
            check_share(name, getattr(self, name))
        check_share("random_examples", self.random_examples)
        check_share("drop_false_labels", self.drop_false_labels)
        if self.max_examples is not None:
            check_at_least("max_examples", self.max_examples, 0)
        elif self.random_examples:
            raise ConfigError("`random_examples` needs `max_examples`, the number that examples are drawn up to")


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """Source of training data.

    Attributes:
        path: JSONL file, perhaps gzipped; for classification also a folder with `<split>.jsonl` and `labels.json`. Of
            texts a folder with `texts.jsonl` and `<teacher>.npy`.
        kind: Kind of records.
        split: File of a folder.
        weight: Relative share of the training items.
        max_candidates: Maximum passages or labels per item; of texts the number per item.
        min_candidates: Lower limit of their random number; None always takes the maximum.
        max_positives: Maximum positives per item; None for all that fit.
        unjudged: Ignore ungraded passages in grade losses, or count them as negatives in records with a positive.
        random_negatives: Random passages of other records added per item; they count as candidates.
        max_passage_words: Maximum words per passage.
        prompt: Task description, prepended to the text.
        labels: All labels, for classification records without them; None reads `labels.json` beside.
        shots: Number of records per label in few-shot training, chosen by the seed; None for all.
        augment: Random augmentation.
        losses: Loss terms; empty for `listwise` (ranking) or `bce` (classification).
    """

    path: Path
    kind: SourceKind
    split: str = "train"
    weight: float = 1.0
    max_candidates: int = 32
    min_candidates: int | None = None
    max_positives: int | None = None
    unjudged: Unjudged = "ignore"
    random_negatives: int = 0
    max_passage_words: int | None = None
    prompt: str = ""
    labels: tuple[str, ...] | None = None
    shots: int | None = None
    augment: AugmentConfig = AugmentConfig()
    losses: tuple[LossConfig, ...] = ()

    def __post_init__(self) -> None:
        check_positive("weight", self.weight)
        for name in ("max_candidates", "min_candidates", "max_positives", "max_passage_words", "shots"):
            if getattr(self, name) is not None:
                check_at_least(name, getattr(self, name), 1)
        if (self.min_candidates or 1) > self.max_candidates:
            raise ConfigError(
                f"`min_candidates` must be at most `max_candidates`, got {self.min_candidates} and "
                f"{self.max_candidates}"
            )
        if not 0 <= self.random_negatives < self.max_candidates:
            raise ConfigError(
                f"`random_negatives` must be at least 0 and below `max_candidates`, got {self.random_negatives}"
            )
        if self.kind == "texts":
            self._check_texts()
        elif self.kind == "ranking":
            self._refuse("ranking", "shots", "labels")
        else:
            self._refuse("classification", "random_negatives", "max_positives", "max_passage_words")
            if any(loss.teachers for loss in self.losses):
                raise ConfigError("classification records have no teacher scores, so their losses take no `teachers`")
        if not self.losses:
            default = LossConfig(name="listwise" if self.kind == "ranking" else "bce")
            object.__setattr__(self, "losses", (default,))

        if self.kind != "texts" and any(loss.name == "relational" for loss in self.losses):
            raise ConfigError(f"the loss `relational` is for sources of texts, got a {self.kind} source")

    def _check_texts(self) -> None:
        self._refuse("texts", "shots", "labels", "random_negatives", "max_positives", "min_candidates", "prompt")
        if not self.losses or any(loss.name != "relational" for loss in self.losses):
            raise ConfigError("a source of texts has no grades: its losses must be `relational`, with `teachers`")

    def _refuse(self, kind: str, *names: str) -> None:
        for name in names:
            if getattr(self, name):
                raise ConfigError(f"`{name}` has no meaning in a {kind} source, got {getattr(self, name)!r}")

    @property
    def teachers(self) -> frozenset[str]:
        """Teachers that must have scored every record, or embedded every text."""
        return frozenset(name for loss in self.losses for name in loss.teachers)


@dataclass(frozen=True, kw_only=True)
class DevConfig:
    """Dev set measured during training.

    Attributes:
        path: JSONL file, perhaps gzipped; or a folder: a collection for ranking, or one with `<split>.jsonl` and
            `labels.json` for classification.
        kind: Kind of records.
        split: Split of a folder.
        name: Name in reports; None for the file's or folder's.
        limit: Number of records, spread evenly over a file, or the first queries of a collection.
        prompt: Task description, prepended to the text.
        labels: All labels; None reads `labels.json` beside.
    """

    path: Path
    kind: Kind
    split: str = "dev"
    name: str | None = None
    limit: int | None = None
    prompt: str = ""
    labels: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.limit is not None:
            check_at_least("limit", self.limit, 1)

    @property
    def title(self) -> str:
        """Name in reports."""
        return self.path.name.removesuffix(".gz").removesuffix(".jsonl") if self.name is None else self.name
