"""Pipeline of a checkpoint, from texts to logits: planner and executor of one attention plan."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice, tee
from numbers import Integral
from pathlib import Path
from threading import get_ident
from types import MappingProxyType
from typing import Any, Final, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from gliclass_rerank.calls.forks import in_sound_thread
from gliclass_rerank.calls.steps import computing, working
from gliclass_rerank.checkpoint.loading import Checkpoint, load_checkpoint
from gliclass_rerank.checkpoint.plan import resolve_plan
from gliclass_rerank.checks import checked_choice, is_a, of_settings, own_text, repaired_text
from gliclass_rerank.errors import BackendError, ConfigError, shown
from gliclass_rerank.model.config import AttentionPlan
from gliclass_rerank.model.cost import optimal_window_tokens
from gliclass_rerank.model.gliclass import GLiClass
from gliclass_rerank.model.probability import Calibration
from gliclass_rerank.prompt.bi_encoder_planner import BiEncoderPlanner
from gliclass_rerank.prompt.coverage import Coverage
from gliclass_rerank.prompt.layout import ScoringRequest
from gliclass_rerank.prompt.parts import text_chunks
from gliclass_rerank.prompt.planner import (
    Planner,
    SharedQueryPlanner,
    TokenPlan,
    TruncateSide,
    WindowPlanner,
)
from gliclass_rerank.prompt.sample import sample_rankings
from gliclass_rerank.runtime.executor import Executor
from gliclass_rerank.runtime.export import build_executor
from gliclass_rerank.runtime.openvino_core import can_use_openvino
from gliclass_rerank.runtime.passage_cache import CacheMeta, StatesDtype
from gliclass_rerank.runtime.passage_precompute import open_passage_cache, precompute, uncacheable_reason
from gliclass_rerank.runtime.passage_vectors import passage_vectors
from gliclass_rerank.runtime.resolve import ResolvedRuntime, resolve_runtime
from gliclass_rerank.settings import ModelSettings, RerankerSettings
from gliclass_rerank.types import Extent, TokenIds

logger = logging.getLogger(__name__)

# Window of public checkpoints' training, and upstream's default.
_MAX_WINDOW_TOKENS: Final = 1024
# Markers, special tokens, and a token of the query and of a passage, at the least.
_LEAST_WINDOW_TOKENS: Final = 8
# The tokenizer encodes several at once.
_TOKENISED_AT_ONCE: Final = 1024
# Enough of a passage to tell it from others.
_VECTOR_TOKENS: Final = 256
_PLANS: Final = get_args(AttentionPlan)


class Scored(NamedTuple):
    """Result of one request.

    Attributes:
        logits: One per candidate, in the request's order.
        plan: Executed plan; its `members` are candidates.
        sees_companions: Candidates of one sequence saw each other.
        spans: Characters of the best chunk, by candidate; only of those that were split.
    """

    logits: list[float]
    plan: TokenPlan[Any]  # Any: windows or blocks
    sees_companions: bool
    spans: Mapping[int, Extent] = MappingProxyType({})


class Pipeline:
    """Checkpoint ready to score; immutable after construction, thread-safe.

    Args:
        settings: Settings of the caller.
        folder: Folder of the checkpoint, if known.
        name: Name of the model; None for the one in the settings.
        is_fetched: The folder was just downloaded from the hub.
        max_passage_tokens: Passage limit; None for the checkpoint's. `shared_query` only.
        passage_cache: Folder of precomputed passages; None for none.
        int8_ndcg_loss: Loss of nDCG@10 in int8; None for the checkpoint's.

    Attributes:
        name: Name or folder of the checkpoint.
        plan: Attention plan; None for bi-encoders.
        runtime: Resolved runtime.
        calibration: Conversion of logits to probabilities.
        coverage: Coverage of the tokenizer.
        max_window_tokens: Length of the longest sequence.
    """

    def __init__(
        self,
        settings: ModelSettings,
        *,
        folder: Path | None = None,
        name: str | None = None,
        is_fetched: bool = False,
        max_passage_tokens: int | None = None,
        passage_cache: str | Path | None = None,
        int8_ndcg_loss: float | None = None,
    ) -> None:
        with of_settings():
            if settings.plan is not None:
                checked_choice("plan", settings.plan, _PLANS)
        checkpoint = load_checkpoint(folder or settings.model, revision=settings.revision, is_fetched=is_fetched)
        if settings.example_store is not None and checkpoint.config.architecture_type == "bi-encoder":
            raise ConfigError(
                "`example_store` has no place beside the architecture 'bi-encoder', which never reads examples"
            )
        self.name = name or checkpoint.name
        self.plan = resolve_plan(checkpoint, settings.plan)
        config = checkpoint.config
        self.calibration = Calibration(
            config.score_calibration, config.answerable_calibration, config.label_calibration
        )
        self.coverage = Coverage(checkpoint.layout.tokenizer)
        self._model, self._label_tokenizer = checkpoint.model, checkpoint.label_tokenizer
        self._planner = build_planner(checkpoint, self.plan, settings, max_passage_tokens=max_passage_tokens)
        self._encode = self._planner.encode_candidates
        self.max_window_tokens = self._planner.max_window_tokens
        if int8_ndcg_loss is None and isinstance(settings, RerankerSettings):  # of rankings alone
            int8_ndcg_loss = checkpoint.config.int8_ndcg_loss
        self.runtime: ResolvedRuntime = resolve_runtime(
            checkpoint.config,
            backend=settings.backend,
            device=settings.device,
            dtype=settings.dtype,
            batch_tokens=settings.batch_tokens,
            threads=settings.threads,
            has_cache=passage_cache is not None,
            int8_ndcg_loss=int8_ndcg_loss,
        )
        self._uncacheable = uncacheable_reason(checkpoint.config, self.plan)
        # Before the executor, which may change the precision of the weights.
        self._cache = None if passage_cache is None else open_passage_cache(Path(passage_cache), self._cacheable())
        self._is_automatic = settings.backend in (None, "auto") and settings.dtype is None
        try:
            self._executor = self._built()
        except BackendError as error:
            # A read-only disk, for one, is no reason to fail when the choice was ours.
            if not self._is_automatic or self.runtime.backend == "torch":
                raise
            self._take_torch(error.reason)

    def _take_torch(self, reason: str) -> None:
        logger.warning("%s on torch, in float32: %s", self.name, reason)
        self.runtime = replace(self.runtime, backend="torch", dtype="float32", reason=reason, quicker=None)
        self._executor = self._built()

    def _built(self) -> Executor[Any]:  # Any: windows or blocks
        return build_executor(self._model, self.runtime, plan=self.plan, sample=self._sample, passage_cache=self._cache)

    def score(self, requests: Sequence[ScoringRequest], *, truncate_side: TruncateSide) -> list[Scored]:
        """Score several requests together.

        Args:
            requests: Requests, each with any number of candidates.
            truncate_side: Side that is cut for lack of room.

        Returns:
            One result per request.

        Raises:
            WindowOverflowError: The untruncatable part does not fit.
            BackendError: The forward pass failed.
            SystemExit: The call was cancelled.
        """
        if get_ident() == computing.survivor:  # a thread that a fork has left cannot compute
            return in_sound_thread(self.score, requests, truncate_side=truncate_side)
        if self._is_automatic and self.runtime.backend == "openvino" and not can_use_openvino():
            self._take_torch("openvino does not survive the fork that made this process")
        with working():
            plans, made = tee(self._plans(requests, truncate_side))
            logits = self._executor.run(plans)
        scored = [Scored(row, plan, self._planner.sees_companions) for row, plan in zip(logits, made, strict=True)]
        return [_best_chunks(each) if each.plan.chunks else each for each in scored]

    def text_chunks(self, groups: Sequence[ScoringRequest]) -> list[list[ScoringRequest]]:
        """Split the text of requests that outgrows the window; see `prompt.parts.text_chunks`."""
        return text_chunks(self._planner, groups)

    def precompute(
        self,
        passages: Iterable[str],
        folder: str | Path,
        *,
        dtype: StatesDtype = "float16",
        layer: int | None = None,
        on_computed: Callable[[int], object] | None = None,
    ) -> CacheMeta:
        """Precompute query-independent passage states.

        Args:
            passages: Texts.
            folder: New folder.
            dtype: Storage type of the states.
            layer: Layer whose input is stored; None for the deepest possible, the first one in which passages see the
                query.
            on_computed: Callback with the number of passages done since the last call.

        Returns:
            Metadata of the cache.

        Raises:
            ConfigError: The checkpoint cannot have a passage cache, or does not run in float32.
            InputError: A passage is not a string.
            DataError: The folder exists, or there is no passage.
            BackendError: The forward pass failed, or its states cannot be stored.
        """
        model = self._cacheable()
        if self.runtime.dtype != "float32":
            raise ConfigError(f"passages are precomputed in the `dtype` 'float32', got {self.runtime.dtype!r}; pass it")
        with working():
            return in_sound_thread(
                precompute,
                self._passage_blocks(passages),
                Path(folder),
                model=model,
                network=self._executor.network,
                batch_tokens=self._executor.batch_tokens,
                dtype=dtype,
                layer=model.config.query_attention_start if layer is None else layer,
                on_computed=on_computed,
            )

    def passage_vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Compute query-independent vectors of passages, of their first 256 tokens.

        Args:
            texts: Texts, at least one.

        Returns:
            FloatArray [num_texts, hidden], of unit length.

        Raises:
            BackendError: The forward pass failed.
        """
        shape = self._model.config.label_shape if self._label_tokenizer else self._model.config.shape
        longest = min(_VECTOR_TOKENS, shape.max_positions or _VECTOR_TOKENS)
        tokenizer = self._label_tokenizer or self._planner.layout.tokenizer
        with working():
            rows = [ids[:longest] or (shape.pad_id,) for ids in tokenizer.encode_sequences(texts)]
            return in_sound_thread(passage_vectors, rows, self._executor.network, self._executor.batch_tokens)

    def num_tokens(self, text: str) -> int:
        """Number of tokens of a text, special tokens excluded."""
        (ids,) = self._planner.layout.tokenizer.encode([text])
        return len(ids)

    def _plans(
        self, requests: Sequence[ScoringRequest], truncate_side: TruncateSide
    ) -> Iterator[TokenPlan[Any]]:  # Any: windows or blocks
        """Plan requests when the executor asks for them, and encode the distinct candidates of several together."""
        start = 0
        while start < len(requests):
            stop, texts = start, dict[str, None]()
            while stop < len(requests) and len(texts) < _TOKENISED_AT_ONCE:
                texts.update(dict.fromkeys(requests[stop].candidates))
                stop += 1
            ids = dict(zip(texts, self._encode(list(texts)), strict=True))
            for request in requests[start:stop]:
                if request.candidates:
                    candidate_ids = [ids[text] for text in request.candidates]
                    yield self._planner.plan(request, truncate_side=truncate_side, candidate_ids=candidate_ids)
                else:
                    yield TokenPlan()
            start = stop

    def _cacheable(self) -> GLiClass:
        if self._uncacheable is not None:
            raise ConfigError(self._uncacheable)
        assert isinstance(self._model, GLiClass), "other architectures are refused above"
        return self._model

    def _passage_blocks(self, passages: Iterable[str]) -> Iterator[TokenIds]:
        assert isinstance(self._planner, SharedQueryPlanner), "other plans are refused above"
        texts = (repaired_text(own_text(f"`passages[{index}]`", text)) for index, text in enumerate(passages))
        while taken := list(islice(texts, _TOKENISED_AT_ONCE)):
            yield from self._planner.candidate_blocks(taken, truncate_side="candidates")[0]

    def _sample(self) -> list[Any]:  # Any: windows or blocks
        requests = [ScoringRequest(text=query, candidates=passages) for query, passages in sample_rankings()]
        plans = [self._planner.plan(request, truncate_side="candidates") for request in requests]
        return [request for plan in plans for request in plan.requests]


def _best_chunks(scored: Scored) -> Scored:
    """Give each candidate the logit of its best chunk, the first one among equals."""
    chunks, best = scored.plan.chunks, dict[int, int]()
    for position, chunk in enumerate(chunks):
        known = best.setdefault(chunk.candidate, position)
        if scored.logits[position] > scored.logits[known]:
            best[chunk.candidate] = position
    members = (dict.fromkeys(chunks[position].candidate for position in group) for group in scored.plan.members)
    return scored._replace(
        logits=[scored.logits[best[candidate]] for candidate in range(len(best))],
        plan=replace(scored.plan, members=tuple(map(tuple, members))),
        spans={candidate: span for candidate, place in best.items() if (span := chunks[place].span) is not None},
    )


def _is_whole(value: object, least: int) -> bool:
    return is_a(value, Integral) and not is_a(value, bool) and int(value) >= least  # type: ignore[call-overload] # numpy's too


def build_planner(
    checkpoint: Checkpoint,
    plan: AttentionPlan | None,
    settings: ModelSettings,
    *,
    max_passage_tokens: int | None = None,
) -> Planner[Any]:  # Any: windows or blocks
    """Build the planner of a checkpoint.

    Args:
        checkpoint: Loaded checkpoint.
        plan: Result of `resolve_plan`.
        settings: Settings of the caller, for the token limits.
        max_passage_tokens: Passage limit; None for the checkpoint's, unless `max_window_tokens` is set.

    Returns:
        The planner.

    Raises:
        ConfigError: A length is out of range.
    """
    config, layout, max_window_tokens = checkpoint.config, checkpoint.layout, settings.max_window_tokens
    ranking = settings if isinstance(settings, RerankerSettings) else RerankerSettings()
    window_tokens = ranking.window_tokens
    long_query, long_passages = ranking.long_query, ranking.long_passages
    if max_passage_tokens is None:
        max_passage_tokens = config.default_passage_tokens if max_window_tokens is None else None
    elif plan != "shared_query":
        raise ConfigError(
            f"passages are cut at {max_passage_tokens} tokens under the plan 'shared_query', got {plan!r}"
        )
    max_window_tokens = _window_limit(config.max_window_tokens, max_window_tokens)
    if window_tokens is not None and not _is_whole(window_tokens, 1):
        raise ConfigError(f"`window_tokens` must be at least 1, got {shown(window_tokens)}")
    if settings.max_example_tokens is not None and not _is_whole(settings.max_example_tokens, 0):
        raise ConfigError(f"`max_example_tokens` must be at least 0, got {shown(settings.max_example_tokens)}")
    if plan == "shared_query":
        return SharedQueryPlanner(
            layout=layout,
            max_window_tokens=max_window_tokens,
            max_passage_tokens=max_passage_tokens,
            max_example_tokens=settings.max_example_tokens,
            long_query=long_query,
            long_passages=long_passages,
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
                long_query=long_query,
                long_passages=long_passages,
            )
    cheapest = partial(optimal_window_tokens, config.shape)
    return WindowPlanner(
        layout=layout,
        max_window_tokens=max_window_tokens,
        window_tokens=cheapest if window_tokens is None else lambda _: window_tokens,
        label_tokenizer=labels,
        max_label_tokens=max_label_tokens,
        max_example_tokens=settings.max_example_tokens,
        long_query=long_query,
        long_passages=long_passages,
    )


def _window_limit(limit: int | None, wanted: int | None) -> int:
    if wanted is None:
        return min(_MAX_WINDOW_TOKENS, limit or _MAX_WINDOW_TOKENS)
    if not _is_whole(wanted, _LEAST_WINDOW_TOKENS) or (limit is not None and wanted > limit):
        raise ConfigError(
            f"`max_window_tokens` must be between {_LEAST_WINDOW_TOKENS} and {limit or 'any number'}, "
            f"got {shown(wanted)}"
        )
    return int(wanted)
