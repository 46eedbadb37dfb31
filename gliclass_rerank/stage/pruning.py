"""Pruning of passages to the sentences that bear on a query, before the LLM reads them.

Importing this module loads no torch: the model is loaded at first use or in `warm_up`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from gliclass_rerank.calls.background import in_background
from gliclass_rerank.checks import (
    checked_choice,
    checked_flag,
    checked_share,
    checked_text,
    of_settings,
    repaired_texts,
)
from gliclass_rerank.settings import RerankerSettings, taking
from gliclass_rerank.stage.lazy import FAILURES, LazyReranker
from gliclass_rerank.types import Extent, Span

if TYPE_CHECKING:
    from gliclass_rerank.examples.filters import Where
    from gliclass_rerank.reranker import Reranker

OnPruningError = Literal["raise", "keep_all"]
# Keeps the answer of about 95 % of questions (benchmarks/log/2026-11-30-spans.md).
MIN_SENTENCE_SCORE: Final = 0.15


@dataclass(frozen=True)
class PrunerSettings(RerankerSettings):
    """Settings of a `ContextPruner`: the reranker's, and the policy."""

    _: KW_ONLY
    reranker: Reranker | Mapping[str, Any] | None = None  # Any: the settings' values
    """Existing `Reranker`, or its settings, in place of the settings above."""
    min_sentence_score: float = MIN_SENTENCE_SCORE
    """Score from which a sentence is kept, in [0, 1]."""
    keep_empty: bool = False
    """Keep the best sentence of passages that would lose all; else those passages are dropped."""
    gap: str = " "
    """Text in place of what was cut between two sentences."""
    on_error: OnPruningError = "raise"
    """`"raise"`, or `"keep_all"`: return whole passages, with the reason in `PrunedPassage.error`, if the model or
    store fails or the query does not fit. Wrong arguments always raise.
    """


@dataclass(frozen=True)
class PrunedPassage:
    """Passage without the sentences that do not bear on the query.

    Attributes:
        index: Position in the caller's list of passages.
        text: What is left.
        kept: Characters of the caller's text that were kept: stretches of consecutive sentences, ascending.
        chars_cut: Number of its characters that were not.
        score: Score of the best sentence, in [0, 1]; None if the passage was not read.
        error: Reason for keeping the whole passage, in one sentence; None if it was read.
    """

    index: int
    text: str
    kept: tuple[Extent, ...]
    chars_cut: int
    score: float | None
    error: str | None = None

    def notes(self) -> dict[str, int | str | list[list[int]]]:
        """Metadata to keep with a passage, as JSON values under names common to all adapters.

        Returns:
            `pruned_chars`, the number of characters cut, and `kept_spans`, first and past-the-last characters of what
            was kept; `prune_error` if the whole passage was kept for an error.
        """
        if self.error is not None:
            return {"prune_error": self.error}
        return {"pruned_chars": self.chars_cut, "kept_spans": [list(extent) for extent in self.kept]}


class ContextPruner(LazyReranker):
    """Step between a reranker and an LLM that keeps the sentences that bear on the query; thread-safe.

    The model is loaded once, at first use. Copies share it; a pickle holds the settings only.

    Args:
        settings: Fields of `PrunerSettings` by name; the first one, `model`, also by position.

    Raises:
        ConfigError: A setting is unknown or inconsistent.
    """

    @taking(PrunerSettings)
    def __init__(self, settings: PrunerSettings) -> None:
        super().__init__(settings, settings.reranker)
        with of_settings():
            self._on_error = checked_choice("on_error", settings.on_error, get_args(OnPruningError))
            self._min_score = checked_share("min_sentence_score", settings.min_sentence_score)
            self._keep_empty = checked_flag("keep_empty", settings.keep_empty)
            self._gap = checked_text("`gap`", settings.gap)

    def run(
        self,
        query: str,
        passages: Sequence[str],
        *,
        min_sentence_score: float | None = None,
        where: Where = None,
    ) -> tuple[PrunedPassage, ...]:
        """Prune passages.

        Args:
            query: Query; not blank.
            passages: Passages in any order, which is kept; may be empty. What is no string counts as blank.
            min_sentence_score: Score from which a sentence is kept; None for the constructor's.
            where: Metadata values that the store's examples must have, or a predicate on the metadata; None for all.

        Returns:
            What is left of each passage; passages of which nothing is left, and blank ones, are dropped.

        Raises:
            InputError: An argument has the wrong type, or the query is blank.
            WindowOverflowError: The query leaves no room for a sentence; with `long_query="error"`.
            CheckpointError: The checkpoint cannot be loaded.
            DataError: The store cannot be opened.
            BackendError: The forward pass or the store failed.
        """
        least = self._min_score
        if min_sentence_score is not None:
            least = checked_share("min_sentence_score", min_sentence_score)
        texts = repaired_texts("passages", passages, blanks_others=True).texts
        try:
            found = self._loaded().spans(query, texts, where=where)
        except FAILURES as error:
            if self._on_error == "raise":
                raise
            reason = f"{type(error).__name__}: {error}"
            return tuple(_whole(index, text, reason) for index, text in enumerate(texts) if text.strip())
        pruned = (self._pruned(index, *each, least) for index, each in enumerate(zip(texts, found, strict=True)))
        return tuple(each for each in pruned if each is not None)

    async def arun(
        self,
        query: str,
        passages: Sequence[str],
        *,
        min_sentence_score: float | None = None,
        where: Where = None,
    ) -> tuple[PrunedPassage, ...]:
        """Await `run` in a worker thread, without blocking the event loop."""
        return await in_background(self.run, query, passages, min_sentence_score=min_sentence_score, where=where)

    def _pruned(self, index: int, text: str, spans: Sequence[Span], least: float) -> PrunedPassage | None:
        chosen = [span for span in spans if span.score >= least] or list(spans[: int(self._keep_empty)])
        if not chosen:
            return None
        kept = stretches(spans, chosen)
        cut = len(text) - sum(end - start for start, end in kept)
        return PrunedPassage(index, self._gap.join(text[slice(*extent)] for extent in kept), kept, cut, spans[0].score)


def stretches(spans: Sequence[Span], chosen: Sequence[Span]) -> tuple[Extent, ...]:
    """Join chosen sentences that follow each other, with the white space between them.

    Args:
        spans: Sentences of a passage, in any order.
        chosen: Some of them.

    Returns:
        First and past-the-last character of each stretch, ascending.
    """
    joined, is_open, wanted = list[Extent](), False, set(chosen)
    for span in sorted(spans, key=lambda each: each.start):
        if span in wanted and is_open:
            joined[-1] = joined[-1][0], span.end
        elif span in wanted:
            joined.append((span.start, span.end))
        is_open = span in wanted
    return tuple(joined)


def _whole(index: int, text: str, error: str) -> PrunedPassage:
    return PrunedPassage(index, text, ((0, len(text)),), 0, None, error)
