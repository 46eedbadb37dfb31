"""What ranking and classifying share: a loaded checkpoint, its planner and its engine. Text in, logits out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from numbers import Integral
from pathlib import Path
from typing import Any, Final, get_args

import torch

from gliclass_rerank.calls.cancellation import working
from gliclass_rerank.calls.forks import in_sound_thread
from gliclass_rerank.checkpoint.loading import Checkpoint, load_checkpoint
from gliclass_rerank.checks import checked_choice, checked_text, is_a, of_settings
from gliclass_rerank.errors import ConfigError, shown
from gliclass_rerank.model.blocks.registry import unsupported_reason
from gliclass_rerank.model.config import AttentionPlan
from gliclass_rerank.model.cost import optimal_window_tokens
from gliclass_rerank.model.gliclass import GLiClass
from gliclass_rerank.prompt.examples import ExampleFormat
from gliclass_rerank.prompt.layout import ScoringRequest
from gliclass_rerank.prompt.planner import (
    BiEncoderPlanner,
    Plan,
    Planner,
    SharedQueryPlanner,
    TruncateSide,
    WindowPlanner,
)
from gliclass_rerank.prompt.sample import sample_rankings
from gliclass_rerank.runtime.choice import BackendName, choose_backend
from gliclass_rerank.runtime.engine import Engine
from gliclass_rerank.runtime.passage_cache import CacheMeta, StatesDtype
from gliclass_rerank.runtime.passage_precompute import open_passage_cache, precompute, uncacheable_reason
from gliclass_rerank.runtime.placement import dtype_name
from gliclass_rerank.runtime.selection import build_backend
from gliclass_rerank.types import Blocks, Example, TokenIds, Window

# What public checkpoints were trained with; upstream's default too.
_MAX_WINDOW_TOKENS: Final = 1024
# The tokenizer works on several at once.
_TOKENISED_AT_ONCE: Final = 1024
_PLANS: Final = get_args(AttentionPlan)
_FORMATS: Final = get_args(ExampleFormat)


class Scorer:
    """A checkpoint ready to score; immutable after construction, safe to share between threads.

    Args:
        model: See `load_checkpoint`.
        name: What the model is called; None for what was asked for.
        device: See `Reranker`; so are the rest.
        dtype: Precision of the backbone.
        plan: Attention plan; None for the checkpoint's.
        revision: Branch, tag or commit of a hub model.
        is_fetched: See `load_checkpoint`.
        max_window_tokens: Longest sequence.
        window_tokens: Length to which windows are packed.
        max_example_tokens: Tokens of examples.
        max_passage_tokens: Longest passage; None for what the checkpoint says. `shared_query` only.
        batch_tokens: Tokens of one forward pass.
        backend: What runs the transformer layers.
        threads: CPU threads of forward passes.
        has_store: Whether there is a store of examples, which the model must be able to read.
        passage_cache: What `precompute` wrote; None for none.

    Attributes:
        name: The checkpoint's name or folder, or the bundled model's name.
        plan: The attention plan in use; None for bi-encoders, which have none.
        device: Where the model runs.
        backend: What runs the transformer layers.
        dtype: Their precision, such as `bfloat16`.
    """

    def __init__(
        self,
        model: str | Path | None,
        *,
        name: str | None = None,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        plan: AttentionPlan | None = None,
        revision: str | None = None,
        is_fetched: bool = False,
        max_window_tokens: int | None = None,
        window_tokens: int | None = None,
        max_example_tokens: int | None = None,
        max_passage_tokens: int | None = None,
        batch_tokens: int | None = None,
        backend: BackendName | None = None,
        threads: int | None = None,
        has_store: bool = False,
        passage_cache: str | Path | None = None,
    ) -> None:
        with of_settings():
            if plan is not None:
                checked_choice("plan", plan, _PLANS)
        checkpoint = load_checkpoint(model, revision=revision, is_fetched=is_fetched)
        if has_store and checkpoint.config.architecture_type == "bi-encoder":
            raise ConfigError(
                "`example_store` has no place beside the architecture 'bi-encoder', which never reads examples"
            )
        self.name = name or checkpoint.name
        self.plan = resolve_plan(checkpoint, plan)
        self._layout, self._model = checkpoint.layout, checkpoint.model
        self._calibration = checkpoint.config.score_calibration
        self._planner = build_planner(
            checkpoint,
            self.plan,
            max_window_tokens,
            window_tokens,
            max_example_tokens=max_example_tokens,
            max_passage_tokens=max_passage_tokens,
        )
        choice = choose_backend(checkpoint.config, backend, device=device, dtype=dtype)
        self._uncacheable = uncacheable_reason(checkpoint.config, self.plan)
        # In front of the backend, which may change the precision of the weights.
        cache = None if passage_cache is None else open_passage_cache(Path(passage_cache), self._cacheable())
        self._backend, placement = build_backend(
            checkpoint.model,
            plan=self.plan,
            choice=choice,
            device=device,
            batch_tokens=batch_tokens,
            threads=threads,
            sample=self._sample,
            cached_layer=None if cache is None else cache.meta.layer,
        )
        self.backend, self.device = choice.backend, placement.device
        self.dtype = dtype_name(choice.dtype or placement.dtype)
        self._batch_tokens = placement.batch_tokens
        self._engine = Engine(self._backend, batch_tokens=placement.batch_tokens, passage_cache=cache)

    def ask(
        self,
        text: str,
        candidates: Sequence[str],
        *,
        prompt: str | None = None,
        examples: Sequence[Example | Mapping[str, Any]] | None = None,  # Any: upstream's JSON-like examples
        example_format: ExampleFormat | None = None,
        max_example_labels: int | None = None,
    ) -> ScoringRequest:
        """Check and freeze one question to the model; the caller's objects are read, never kept."""
        shown = Example.list_of(examples)
        if example_format is not None:
            checked_choice("example_format", example_format, _FORMATS)
        return ScoringRequest(
            text=text,
            candidates=candidates,
            prompt=prompt or "",
            examples=shown,
            example_format=example_format or self._layout.default_example_format,
            max_example_labels=max_example_labels,
        )

    def score(self, asks: Sequence[ScoringRequest], *, truncate_side: TruncateSide) -> list[tuple[list[float], Plan]]:
        """Score several asks together.

        Args:
            asks: Each may have any number of candidates, none included.
            truncate_side: Which side is cut when a window is too small.

        Returns:
            For each ask, one logit per candidate in its order, and the plan that was run.

        Raises:
            WindowOverflowError: What must survive does not fit.
            BackendError: The forward pass failed.
            SystemExit: The call was cancelled.
        """
        with working():
            return in_sound_thread(self._scored, asks, truncate_side)

    def _scored(self, asks: Sequence[ScoringRequest], truncate_side: TruncateSide) -> list[tuple[list[float], Plan]]:
        plans = [
            self._planner.plan(ask, truncate_side=truncate_side) if ask.candidates else Plan((), ()) for ask in asks
        ]
        rows = iter(self._engine.run([request for plan in plans for request in plan.requests]))
        results = []
        for ask, plan in zip(asks, plans, strict=True):
            results.append((candidate_logits(plan, rows, len(ask.candidates)), plan))
        return results

    def precompute(
        self,
        passages: Iterable[str],
        folder: str | Path,
        *,
        dtype: StatesDtype = "float16",
        layer: int | None = None,
        on_computed: Callable[[int], object] | None = None,
    ) -> CacheMeta:
        """Compute what does not depend on the query and write it; see `Reranker.precompute`.

        Args:
            passages: Texts.
            folder: Must not exist yet.
            dtype: How states are kept.
            layer: The layer whose input is kept; None for the first one in which passages see the query, the best.
            on_computed: Called with the number of passages done since the last call.

        Returns:
            What was written.

        Raises:
            ConfigError: The checkpoint cannot have a passage cache, or does not run in float32.
            InputError: A passage is not a string.
            DataError: The folder exists, or there is no passage.
            BackendError: The forward pass failed, or gave what cannot be kept.
        """
        model = self._cacheable()
        if self.dtype != "float32":
            raise ConfigError(f"passages are precomputed in the `dtype` 'float32', got {shown(self.dtype)}")
        with working():
            return in_sound_thread(
                precompute,
                self._passage_blocks(passages),
                Path(folder),
                model=model,
                backend=self._backend,
                batch_tokens=self._batch_tokens,
                dtype=dtype,
                layer=model.config.query_attention_start if layer is None else layer,
                on_computed=on_computed,
            )

    def _cacheable(self) -> GLiClass:
        if self._uncacheable is not None:
            raise ConfigError(self._uncacheable)
        assert isinstance(self._model, GLiClass), "other architectures are refused above"
        return self._model

    def _passage_blocks(self, passages: Iterable[str]) -> Iterator[TokenIds]:
        assert isinstance(self._planner, SharedQueryPlanner), "other plans are refused above"
        texts = (checked_text(f"`passages[{index}]`", text) for index, text in enumerate(passages))
        while taken := list(islice(texts, _TOKENISED_AT_ONCE)):
            yield from self._planner.candidate_blocks(taken, truncate_side="candidates")[0]

    def _sample(self) -> list[Window | Blocks]:
        asks = [self.ask(query, passages) for query, passages in sample_rankings()]
        return [request for ask in asks for request in self._planner.plan(ask, truncate_side="candidates").requests]

    def relevance(self, logit: float) -> float:
        """A passage's score in [0, 1]: the sigmoid of its logit, calibrated if the checkpoint is."""
        return calibrated_score(logit, self._calibration)

    def num_tokens(self, text: str) -> int:
        """Tokens of a text, special tokens not counted."""
        (ids,) = self._layout.tokenizer.encode([text])
        return len(ids)


def candidate_logits(plan: Plan, rows: Iterator[Sequence[float]], count: int) -> list[float]:
    """Bring the logits of a plan's requests into the candidates' order.

    Args:
        plan: What was run.
        rows: The logits of each request; as many rows are taken as the plan has.
        count: Number of candidates.

    Returns:
        One logit a candidate.
    """
    logits = [math.nan] * count
    for members in plan.members:
        for index, logit in zip(members, next(rows), strict=True):
            logits[index] = logit
    return logits


def calibrated_score(logit: float, calibration: tuple[float, float] | None) -> float:
    """The sigmoid of slope * logit + intercept; None stands for 1 and 0."""
    slope, intercept = calibration or (1.0, 0.0)
    return sigmoid(slope * logit + intercept)


def sigmoid(logit: float) -> float:
    """The logistic function in float64, without overflow."""
    if logit >= 0:
        return 1 / (1 + math.exp(-logit))
    exponential = math.exp(logit)
    return exponential / (1 + exponential)


def resolve_plan(checkpoint: Checkpoint, plan: AttentionPlan | None) -> AttentionPlan | None:
    """The attention plan to run.

    Args:
        checkpoint: What is loaded.
        plan: What was asked for; None for the checkpoint's own.

    Returns:
        The plan; None for bi-encoders, which have none.

    Raises:
        ConfigError: The checkpoint cannot run it.
    """
    config = checkpoint.config
    if config.is_bi_encoder:
        if plan is not None:
            raise ConfigError(f"the architecture {config.architecture_type!r} has no attention plan, got {plan!r}")
        return None
    resolved = plan or config.attention_plan
    if resolved != "shared_query" and config.token_interaction:
        raise ConfigError(f"this checkpoint compares tokens, which only the plan 'shared_query' can do, got {plan!r}")
    if resolved != "shared_query" and config.candidate_position_start:
        raise ConfigError(
            f"this checkpoint's candidates begin at position {config.candidate_position_start}, which only the plan "
            f"'shared_query' can do, got {plan!r}"
        )
    reason = unsupported_reason(config.encoder_config) if resolved == "shared_query" else None
    if reason is not None:
        raise ConfigError(reason)
    return resolved


def _is_whole(value: object, least: int) -> bool:
    return is_a(value, Integral) and not is_a(value, bool) and int(value) >= least  # type: ignore[call-overload] # numpy's too


def build_planner(
    checkpoint: Checkpoint,
    plan: AttentionPlan | None,
    max_window_tokens: int | None,
    window_tokens: int | None,
    *,
    max_example_tokens: int | None = None,
    max_passage_tokens: int | None = None,
) -> Planner:
    """The planner for a checkpoint.

    Args:
        checkpoint: What is loaded.
        plan: What `resolve_plan` said.
        max_window_tokens: Longest sequence; None for 1,024, or what the backbone's positions allow, and for passages
            what the checkpoint says.
        window_tokens: Length to which windows are packed; None for the cheapest.
        max_example_tokens: Tokens of all examples at most; None for what the query leaves.
        max_passage_tokens: Longest passage; None for what the checkpoint says, unless `max_window_tokens` is given.

    Returns:
        The planner.

    Raises:
        ConfigError: A length that is out of range.
    """
    config, layout = checkpoint.config, checkpoint.layout
    if max_passage_tokens is None:
        max_passage_tokens = config.default_passage_tokens if max_window_tokens is None else None
    elif plan != "shared_query":
        raise ConfigError(
            f"passages are cut at {max_passage_tokens} tokens under the plan 'shared_query', got {plan!r}"
        )
    limit = config.max_window_tokens
    if max_window_tokens is None:
        max_window_tokens = min(_MAX_WINDOW_TOKENS, limit or _MAX_WINDOW_TOKENS)
    elif not _is_whole(max_window_tokens, 1) or (limit is not None and max_window_tokens > limit):
        raise ConfigError(
            f"`max_window_tokens` must be between 1 and {limit or 'any number'}, got {shown(max_window_tokens)}"
        )
    if window_tokens is not None and not _is_whole(window_tokens, 1):
        raise ConfigError(f"`window_tokens` must be at least 1, got {shown(window_tokens)}")
    if max_example_tokens is not None and not _is_whole(max_example_tokens, 0):
        raise ConfigError(f"`max_example_tokens` must be at least 0, got {shown(max_example_tokens)}")
    if plan == "shared_query":
        return SharedQueryPlanner(
            layout=layout,
            max_window_tokens=max_window_tokens,
            max_passage_tokens=max_passage_tokens,
            max_example_tokens=max_example_tokens,
        )
    labels, max_label_tokens = checkpoint.label_tokenizer, 0
    if labels is not None:
        max_label_tokens = min(_MAX_WINDOW_TOKENS, config.label_shape.max_positions or _MAX_WINDOW_TOKENS)
        if config.architecture_type == "bi-encoder":
            return BiEncoderPlanner(
                layout=layout,
                max_window_tokens=max_window_tokens,
                label_tokenizer=labels,
                max_label_tokens=max_label_tokens,
            )
    return WindowPlanner(
        layout=layout,
        max_window_tokens=max_window_tokens,
        window_tokens=partial(optimal_window_tokens, config.shape)
        if window_tokens is None
        else lambda _: window_tokens,
        label_tokenizer=labels,
        max_label_tokens=max_label_tokens,
        max_example_tokens=max_example_tokens,
    )
