"""Cascade of two checkpoints: the first scores every passage, the second rescores the best ones.

A cascade is a folder, and loads wherever a checkpoint does:

```
config.json     {"model_type": "GLiClassCascade", "first": ..., "second": ..., and `CascadeConfig`'s other fields}
first/, second/ the checkpoints, unless `first` or `second` names a bundled one
```

The selection depends on all passages of a query, but not on their order.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

from gliclass_rerank.calls.forks import in_sound_thread
from gliclass_rerank.calls.steps import working
from gliclass_rerank.calls.workers import Workers
from gliclass_rerank.checkpoint.location import (
    CONFIG,
    DEFAULT_RANKER,
    bundled_folder,
    is_bundled,
    is_folder_name,
    local_folder,
    locate,
    read_config,
)
from gliclass_rerank.checks import checked_count, checked_share, of_settings
from gliclass_rerank.errors import CheckpointError, ConfigError, listed, shown
from gliclass_rerank.files.atomic_write import atomic_folder, own_folder
from gliclass_rerank.model.calibration import checked_line
from gliclass_rerank.model.probability import Calibration
from gliclass_rerank.pipeline import Pipeline, Scored
from gliclass_rerank.prompt.layout import ScoringRequest
from gliclass_rerank.prompt.planner import TokenPlan, TruncateSide
from gliclass_rerank.runtime.resolve import ResolvedRuntime
from gliclass_rerank.settings import RerankerSettings
from gliclass_rerank.types import Truncation

MODEL_TYPE: Final = "GLiClassCascade"
_WHOLE: Final = (None, None)
# Names in files of version 0.1.
_OLD_FIELDS: Final = {
    "num_refined": "rerank_depth",
    "first_share": "first_weight",
    "first_share_with_examples": "first_weight_with_examples",
}


@dataclass(frozen=True, kw_only=True)
class CascadeConfig:
    """Settings of a cascade.

    Attributes:
        first: First checkpoint: a folder within the cascade's, or a bundled model.
        second: Second checkpoint, likewise.
        rerank_depth: Number of passages that the second one rescores.
        first_weight: Weight of the first one's logit, in [0, 1]; the second one has the rest.
        first_weight_with_examples: Weight for queries with examples; None for `first_weight`.
        sure_bonus: Slope and intercept of a bonus for passages of which the second one is sure: a line of its logit,
            added to the mixture where it is above 0, for queries without examples; None for none.
        first_passage_tokens: Passage limit of the first one; None for its own. Its cuts do not count for passages that
            the second one rescores. Needs the plan `shared_query`.
        first_reads_examples: Show examples to the first one too. A checkpoint not trained with examples may favour
            passages that merely resemble them.
        max_query_tokens: Limit, examples excluded, beyond which the first one ranks alone, unless only the second one
            reads the query's examples; None for no limit.
        score_calibration: Slope and intercept before the sigmoid; None for 1 and 0.
        answerable_calibration: Slope and intercept of the best logit for `Ranking.answerable`; None for none.
        unseen_calibration: Slope and intercept from the first one's logit to the mixture that is expected of it, for
            passages without a second look; None for 1 and 0.
        int8_ndcg_loss: Largest loss of nDCG@10 in int8 against float32 over the sets it was measured on; None for those
            of the checkpoints.
    """

    first: str
    second: str
    rerank_depth: int = 20
    first_weight: float = 0.5
    first_weight_with_examples: float | None = None
    sure_bonus: tuple[float, float] | None = None
    first_passage_tokens: int | None = None
    first_reads_examples: bool = True
    max_query_tokens: int | None = None
    score_calibration: tuple[float, float] | None = None
    answerable_calibration: tuple[float, float] | None = None
    unseen_calibration: tuple[float, float] | None = None
    int8_ndcg_loss: float | None = None

    def __post_init__(self) -> None:
        for field, name in (("first", self.first), ("second", self.second)):
            if not isinstance(name, str) or not is_folder_name(name):
                raise ConfigError(f"`{field}` of a cascade must be the name of a folder in it, got {shown(name)}")
        # Stored as checked: numpy numbers, for one, are not JSON.
        with of_settings():
            object.__setattr__(self, "rerank_depth", checked_count("rerank_depth", self.rerank_depth))
            object.__setattr__(self, "first_weight", checked_share("first_weight", self.first_weight))
            for field in ("first_weight_with_examples", "int8_ndcg_loss"):
                if (share := getattr(self, field)) is not None:
                    object.__setattr__(self, field, checked_share(field, share))
            for field in ("first_passage_tokens", "max_query_tokens"):
                if (count := getattr(self, field)) is not None:
                    object.__setattr__(self, field, checked_count(field, count))
        if not isinstance(self.first_reads_examples, bool):
            raise ConfigError(f"`first_reads_examples` must be true or false, got {shown(self.first_reads_examples)}")
        for field in ("sure_bonus", "score_calibration", "answerable_calibration", "unseen_calibration"):
            object.__setattr__(self, field, checked_line(field, getattr(self, field)))

    def mixed(self, first: Sequence[float], second: Sequence[float], *, has_examples: bool = False) -> list[float]:
        """Mix the logits of passages that both checkpoints scored.

        Args:
            first: The first one's logits.
            second: The second one's, likewise.
            has_examples: The query has examples.

        Returns:
            One logit per passage, a function of its two alone.
        """
        share = self.first_weight
        if has_examples and self.first_weight_with_examples is not None:
            share = self.first_weight_with_examples
        slope, intercept = (0.0, 0.0) if has_examples or self.sure_bonus is None else self.sure_bonus
        return [
            share * one + (1 - share) * other + max(0.0, slope * other + intercept)
            for one, other in zip(first, second, strict=True)
        ]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> CascadeConfig:  # Any: JSON
        """Read a cascade's `config.json`; a missing, unknown or out-of-range field is a `ConfigError`."""
        given = {_OLD_FIELDS.get(key, key): value for key, value in values.items() if key != "model_type"}
        known = [field.name for field in fields(cls)]
        if not {"first", "second"} <= given.keys() <= set(known):
            raise ConfigError(
                f"a cascade's config must have `first` and `second` and may have {listed(known[2:])}, "
                f"got {listed(given)}"
            )
        return cls(**given)

    def to_dict(self) -> dict[str, Any]:  # Any: JSON
        """Convert to the file's object."""
        return {"model_type": MODEL_TYPE, **asdict(self)}


def is_cascade(values: Mapping[str, Any]) -> bool:  # Any: JSON
    """Test for a cascade's settings, as read by `read_config`."""
    return values.get("model_type") == MODEL_TYPE


def load_ranker(settings: RerankerSettings) -> Pipeline | Cascade:
    """Load a checkpoint's pipeline, or a cascade.

    Args:
        settings: Settings of the caller.

    Returns:
        The pipeline or cascade.

    Raises:
        CheckpointError: It cannot be loaded.
        ConfigError: A setting does not apply to it.
    """
    name = DEFAULT_RANKER if settings.model is None else settings.model
    folder = locate(name, revision=settings.revision)
    values = read_config(folder)
    if is_cascade(values):
        return in_sound_thread(Cascade, str(name), folder, CascadeConfig.from_dict(values), settings)
    return in_sound_thread(
        Pipeline,
        settings,
        folder=folder,
        name=str(name),
        is_fetched=local_folder(name) is None,
        passage_cache=settings.passage_cache,
    )


class Cascade:
    """Two pipelines and their fusion; immutable after construction, thread-safe.

    Args:
        name: Name given by the caller.
        folder: Folder of the cascade.
        config: Settings of the cascade.
        settings: Settings of both pipelines; the passage cache is the first one's.

    Attributes:
        name: Name given by the caller.
        plan: Attention plan of the first checkpoint.
        calibration: Conversion of logits to probabilities.
        max_window_tokens: Length of the first checkpoint's longest sequence.
        precompute: Method of the first pipeline; so is `passage_vectors`.
        coverage: Coverage of the first one's tokenizer.
        config: Settings of the cascade.
        first: Pipeline that scores every passage.
    """

    def __init__(self, name: str, folder: Path, config: CascadeConfig, settings: RerankerSettings) -> None:
        self.name = name
        self.calibration = Calibration(config.score_calibration, config.answerable_calibration)
        self._unseen = config.unseen_calibration or (1.0, 0.0)
        self.config = config
        first, second = (part_folder(folder, part) for part in (config.first, config.second))
        # A first one that reads the beginnings alone is quick for that.
        of_first = settings if config.first_passage_tokens is None else replace(settings, long_passages="cut")
        # In parallel: reading weights, vocabularies and graphs releases the GIL and dominates a cold start.
        with working() as token:
            loading = Workers(1, "gliclass-rerank-load").submit(
                Pipeline, settings, folder=second, int8_ndcg_loss=config.int8_ndcg_loss
            )
            try:
                self.first = Pipeline(
                    of_first,
                    folder=first,
                    max_passage_tokens=config.first_passage_tokens,
                    passage_cache=settings.passage_cache,
                    int8_ndcg_loss=config.int8_ndcg_loss,
                )
                self._second = loading.result()
            except BaseException:
                token.cancel()
                raise
        self.precompute, self.coverage = self.first.precompute, self.first.coverage
        self.passage_vectors = self.first.passage_vectors
        self.max_window_tokens = self.first.max_window_tokens
        self.plan = self.first.plan

    @property
    def runtime(self) -> ResolvedRuntime:
        """Runtime of the first checkpoint."""
        return self.first.runtime

    def score(self, requests: Sequence[ScoringRequest], *, truncate_side: TruncateSide) -> list[Scored]:
        """Score several requests together.

        Passages that the second checkpoint skips keep the first one's order and stay behind those it rescored. Their
        logits are those that a second look is expected to give, shifted down together if needed. Of a passage in chunks
        it rescores the first one's best.

        Args:
            requests: Requests, each with any number of candidates.
            truncate_side: Side that is cut for lack of room.

        Returns:
            One result per request, as from `Pipeline.score`; the plan adds the second checkpoint's truncations to the
            first one's.
        """
        both = self.config.first_reads_examples
        shown = requests if both else [replace(request, examples=()) for request in requests]
        scored = self.first.score(shown, truncate_side=truncate_side)
        chosen = [self._chosen(request, first) for request, first in zip(requests, scored, strict=True)]
        again = [
            replace(
                request,
                candidates=[request.candidates[index][slice(*first.spans.get(index, _WHOLE))] for index in indices],
            )
            for request, first, indices in zip(requests, scored, chosen, strict=True)
        ]
        refined = self._second.score(again, truncate_side=truncate_side)
        return [self._joined(*each) for each in zip(requests, scored, chosen, refined, strict=True)]

    def _chosen(self, request: ScoringRequest, first: Scored) -> list[int]:
        """Candidates for the second checkpoint, best first."""
        limit, logits = self.config.max_query_tokens, first.logits
        only_second_reads = bool(request.examples) and not self.config.first_reads_examples
        if limit is not None and not only_second_reads and self.first.num_tokens(request.text) > limit:
            return []
        return sorted(range(len(logits)), key=lambda index: (-logits[index], index))[: self.config.rerank_depth]

    def _joined(self, request: ScoringRequest, first: Scored, chosen: Sequence[int], second: Scored) -> Scored:
        looked_at = [first.logits[index] for index in chosen]
        mixed = self.config.mixed(looked_at, second.logits, has_examples=bool(request.examples))
        refined = dict(zip(chosen, mixed, strict=True))
        slope, intercept = self._unseen
        expected = [slope * logit + intercept for logit in first.logits]
        others = [logit for index, logit in enumerate(expected) if index not in refined]
        down = max(0.0, max(others) - min(refined.values())) if refined and others else 0.0
        logits = [refined.get(index, logit - down) for index, logit in enumerate(expected)]
        spans = dict(first.spans)
        for position, (start, end) in second.spans.items():
            before, _ = spans.get(chosen[position], (0, 0))
            spans[chosen[position]] = before + start, before + end
        return first._replace(logits=logits, plan=self._with_cuts(first.plan, chosen, second.plan), spans=spans)

    def _with_cuts(self, plan: TokenPlan[Any], chosen: Sequence[int], second: TokenPlan[Any]) -> TokenPlan[Any]:
        """First checkpoint's plan with the second one's truncations; the larger of two cuts of a text counts.

        If the first one reads only the beginning of passages, its cuts do not count for rescored ones; if it reads no
        examples, the second one's truncations of examples count.
        """
        read_on = frozenset() if self.config.first_passage_tokens is None else frozenset(chosen)
        cuts = {cut.index: cut for cut in plan.truncated if cut.index not in read_on}
        for cut in second.truncated:
            index = chosen[cut.index]
            if index not in cuts or cuts[index].num_lost < cut.num_lost:
                cuts[index] = Truncation(index, cut.num_tokens, cut.num_lost)
        read = plan if self.config.first_reads_examples else second
        queries = [cut for cut in (plan.text_truncation, second.text_truncation) if cut is not None]
        return replace(
            plan,
            text_truncation=max(queries, key=lambda cut: cut.num_lost, default=None),
            truncated=tuple(cuts[index] for index in sorted(cuts)),
            truncated_examples=read.truncated_examples,
        )


def save_cascade(config: CascadeConfig, folder: str | Path, parts: Mapping[str, Path] | None = None) -> None:
    """Write a cascade atomically.

    Args:
        config: Settings of the cascade.
        folder: New folder.
        parts: Checkpoint folders by their names in `config`; copied. A bundled model needs none.

    Raises:
        CheckpointError: The folder exists, or a part has no folder.
    """
    target, given = Path(folder), parts or {}
    if target.exists():
        raise CheckpointError(f"`{target}` exists already; checkpoints are never overwritten")
    for name in {config.first, config.second}:
        if name not in given and not is_bundled(name):
            raise CheckpointError(f"the part `{name}` is neither given nor a bundled model")
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(target) as staging:
        for name, source in given.items():
            shutil.copytree(source, staging / name)
        (staging / CONFIG).write_text(json.dumps(config.to_dict(), indent=2, sort_keys=True) + "\n", encoding="utf-8")


def copy_cascade(source: Path, folder: str | Path, config: CascadeConfig) -> None:
    """Copy a cascade with other settings.

    Args:
        source: Folder of the cascade.
        folder: New folder.
        config: Settings of the copy, with the parts of `source`.

    Raises:
        CheckpointError: The folder exists.
    """
    parts = {name: source / name for name in (config.first, config.second) if (source / name).is_dir()}
    save_cascade(config, folder, parts)


def part_folder(folder: Path, name: str) -> Path:
    """Folder of a cascade's part, its own or a bundled model's; a `CheckpointError` if there is none."""
    if (own := own_folder(folder, name)) is not None:
        return own
    if is_bundled(name):
        return bundled_folder(name)
    raise CheckpointError(f"the cascade in `{folder}` holds no folder `{name}`, and no bundled model has that name")
