"""Rerankers as cross-encoders for `mteb` and `beir`.

Both pass (query, passage) pairs, title and text joined, and want a number each. Pairs are regrouped by query, so that
passages see the same companions as in `Reranker.rank`. The number is the logit: sigmoids round to 1.0 and tie.

Neither package is imported with this module; only `MtebReranker` needs mteb.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from gliclass_rerank._imports import require
from gliclass_rerank.checkpoint.location import DEFAULT_RANKER, local_folder
from gliclass_rerank.checks import checked_count, checked_texts, of_settings
from gliclass_rerank.errors import ConfigError, InputError, listed, shown
from gliclass_rerank.files.digests import folder_digest
from gliclass_rerank.reranker import Reranker
from gliclass_rerank.settings import RerankerSettings, taking

# Bounds the texts tokenised ahead of the model; far more than a forward pass holds.
_PAIRS_AT_ONCE: Final = 8192

# `Reranker` settings that change logits by more than rounding.
_SCORING: Final = (
    "backend",
    "dtype",
    "plan",
    "max_window_tokens",
    "window_tokens",
    "long_query",
    "long_passages",
    "max_example_passages",
    "max_example_tokens",
    "passage_cache",
    "example_store",
    "num_examples",
    "min_example_similarity",
    "allow_same_text",
)

# Length of a local checkpoint's revision, as of a git commit.
_COMMIT_DIGITS: Final = 40


@dataclass(frozen=True)
class PairSettings(RerankerSettings):
    """Settings of `BeirReranker` and `MtebReranker`: those of the reranker that they load, and what is cut."""

    model: Reranker | str | Path | None = None  # type: ignore[assignment] # wider than what is loaded
    """A `Reranker`, or what it loads: a local folder, a hub name, or None for the bundled model."""
    _: KW_ONLY
    allow_same_text: bool = False
    """As for a `Reranker`, but off: judged queries would give their answers away."""
    max_query_chars: int | None = None
    """Longer queries are cut to this; None for no limit but the window's (see `long_query`)."""


def pair_logits(
    reranker: Reranker,
    queries: Iterable[str],
    passages: Iterable[str],
    *,
    max_query_chars: int | None = None,
    show_progress_bar: bool = False,
) -> list[float]:
    """Score pairs, with one ranking per distinct query.

    Args:
        reranker: Reranker.
        queries: Query of each pair, in any order; not blank.
        passages: Passage of each pair; may be blank.
        max_query_chars: Longer queries are cut to this; None for no limit.
        show_progress_bar: Show progress on stderr, if it is a terminal.

    Returns:
        One logit per pair; equal pairs have equal logits.

    Raises:
        InputError: Not strings, a blank query, or different lengths; raised before scoring.
        WindowOverflowError: A query leaves no room for a passage; with `long_query="error"`.
        BackendError: The forward pass failed.
    """
    asked, texts = checked_texts("queries", queries), checked_texts("passages", passages)
    if len(asked) != len(texts):
        raise InputError(f"`passages` must hold one for each of the {len(asked)} queries, got {len(texts)}")
    logits = [0.0] * len(texts)
    with tqdm(total=len(texts), unit=" passages", disable=None if show_progress_bar else True, leave=False) as bar:
        for chunk in _chunks(_by_query(asked)):
            rankings = reranker.rank_many(
                [_cut(query, max_query_chars) for query in chunk],
                [[texts[index] for index in members] for members in chunk.values()],
            )
            for members, ranking in zip(chunk.values(), rankings, strict=True):
                for hit in ranking:
                    logits[members[hit.index]] = hit.logit
                bar.update(len(members))
    return logits


class BeirReranker:
    """Model for `beir.reranking.Rerank`.

    Args:
        settings: The fields of `PairSettings`, by name; the first one, `model`, by position too.

    Raises:
        ConfigError: A setting is out of range, or settings were given beside a `Reranker`.
        CheckpointError: The checkpoint cannot be loaded.
    """

    @taking(PairSettings)
    def __init__(self, settings: PairSettings) -> None:
        self._reranker = _loaded(settings)
        self._max_query_chars = _limit(settings.max_query_chars)

    def predict(
        self,
        sentences: Sequence[Sequence[str]],
        batch_size: int | None = None,  # noqa: ARG002 # batches are made by tokens: `batch_tokens`
        show_progress_bar: bool = True,
        **_: Any,  # of sentence-transformers' `predict`, which this replaces
    ) -> list[float]:
        """Score pairs.

        Args:
            sentences: (query, passage) pairs in any order. Passages may be empty, queries not.
            batch_size: Ignored; `batch_tokens` applies.
            show_progress_bar: Show progress on stderr, if it is a terminal.

        Returns:
            One logit per pair.

        Raises:
            InputError: Not pairs of strings, or a blank query.
            WindowOverflowError: A query leaves no room for a passage.
            BackendError: The forward pass failed.
        """
        queries, passages = _unzipped(sentences)
        return pair_logits(
            self._reranker,
            queries,
            passages,
            max_query_chars=self._max_query_chars,
            show_progress_bar=show_progress_bar,
        )


class MtebReranker:
    """Model for `mteb.evaluate` on reranking tasks: mteb's `CrossEncoderProtocol`.

    mteb caches results by name, revision and settings. A local checkpoint's revision is therefore a digest of its
    files.

    Args:
        settings: The fields of `PairSettings`, by name; the first one, `model`, by position too. Of a hub model pin a
            commit by `revision`: mteb takes an equal revision for equal weights.

    Attributes:
        mteb_model_meta: mteb's description of the model; set by mteb's own registry.

    Raises:
        ConfigError: A setting is out of range, or settings were given beside a `Reranker`.
        CheckpointError: The checkpoint cannot be loaded.
        MissingDependencyError: mteb is not installed.
    """

    @taking(PairSettings)
    def __init__(self, settings: PairSettings) -> None:
        mteb = require("mteb", extra="mteb")  # before the weights are read
        self._reranker = _loaded(settings)
        self._max_query_chars = _limit(settings.max_query_chars)
        self.mteb_model_meta: Any = mteb.models.ModelMeta.create_empty(  # Any: mteb's `ModelMeta`
            overwrites=_description(self._reranker, self._max_query_chars)
        )

    def predict(
        self,
        inputs1: Iterable[Mapping[str, Any]],  # Any: columns of any kind; only `text` is read
        inputs2: Iterable[Mapping[str, Any]],
        *,
        show_progress_bar: bool = True,
        **_: Any,  # the task's metadata, split and subset, the prompt type, sentence-transformers' arguments
    ) -> NDArray[np.float64]:
        """Score pairs.

        Args:
            inputs1: Batches with queries under `text`, instructions included.
            inputs2: Batches with passages under `text`, titles included.
            show_progress_bar: Show progress on stderr, if it is a terminal.

        Returns:
            FloatArray [num_candidates]. One logit per pair.

        Raises:
            InputError: Batches without texts, inputs of different lengths, or a blank query.
            WindowOverflowError: A query leaves no room for a passage.
            BackendError: The forward pass failed.
        """
        logits = pair_logits(
            self._reranker,
            _texts("inputs1", inputs1),
            _texts("inputs2", inputs2),
            max_query_chars=self._max_query_chars,
            show_progress_bar=show_progress_bar,
        )
        return np.array(logits, dtype=np.float64)


def _loaded(settings: PairSettings) -> Reranker:
    loading = settings.loading()
    model = loading.pop("model", None)
    if not isinstance(model, Reranker):
        return Reranker(model, **loading)
    if loading:
        raise ConfigError(f"pass either a `Reranker` or {listed(loading)}, not both")
    return model


def _limit(max_query_chars: int | None) -> int | None:
    with of_settings():
        return None if max_query_chars is None else checked_count("max_query_chars", max_query_chars)


def _by_query(queries: Sequence[str]) -> dict[str, list[int]]:
    """Indices of each query's pairs."""
    groups: dict[str, list[int]] = {}
    for index, query in enumerate(queries):
        if not query.strip():
            raise InputError(f"`queries[{index}]` must not be blank, got {shown(query)}")
        groups.setdefault(query, []).append(index)
    return groups


def _cut(query: str, max_chars: int | None) -> str:
    return query if max_chars is None else query.lstrip()[:max_chars]  # so that the rest is never blank


def _chunks(groups: Mapping[str, list[int]]) -> Iterator[dict[str, list[int]]]:
    """Chunks of whole queries with about `_PAIRS_AT_ONCE` pairs."""
    chunk: dict[str, list[int]] = {}
    num_pairs = 0
    for query, members in groups.items():
        if chunk and num_pairs + len(members) > _PAIRS_AT_ONCE:
            yield chunk
            chunk, num_pairs = {}, 0
        chunk[query] = members
        num_pairs += len(members)
    if chunk:
        yield chunk


def _unzipped(pairs: object) -> tuple[list[str], list[str]]:
    if isinstance(pairs, (str, bytes)) or not isinstance(pairs, Iterable):
        raise InputError(f"`sentences` must be a list of (query, passage) pairs, got {shown(pairs)}")
    queries, passages = [], []
    for index, pair in enumerate(pairs):
        if isinstance(pair, (str, bytes)) or not isinstance(pair, Sequence) or len(pair) != 2:
            raise InputError(f"`sentences[{index}]` must be a (query, passage) pair, got {shown(pair)}")
        queries.append(pair[0])
        passages.append(pair[1])
    return queries, passages


def _texts(name: str, batches: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for batch in batches:
        if "text" not in batch:
            raise InputError(f"`{name}` must have the column `text`, got {listed(map(str, batch))}")
        yield from batch["text"]


def _description(reranker: Reranker, max_query_chars: int | None) -> dict[str, Any]:
    """Fields of mteb's `ModelMeta`; name, revision and settings identify cached results."""
    settings = reranker.settings
    scoring: dict[str, Any] = {name: settings[name] for name in _SCORING if name in settings}
    if max_query_chars is not None:
        scoring["max_query_chars"] = max_query_chars
    fields = {"model_type": ["cross-encoder"], "framework": ["PyTorch"], "experiment_kwargs": scoring or None}
    folder = local_folder(settings.get("model", DEFAULT_RANKER))
    if folder is None:
        return {
            **fields,
            "name": _two_part(reranker.name),
            "revision": settings.get("revision"),
            "loader": MtebReranker,
        }
    return {**fields, "name": _two_part(folder.resolve().name), "revision": folder_digest(folder)[:_COMMIT_DIGITS]}


def _two_part(name: str) -> str:
    """Model name with an organization, as mteb requires."""
    return name if "/" in name else f"gliclass-rerank/{name}"
