"""Actor that ranks batches of rows, for Ray Data and for `gliclass-rerank batch --ray`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gliclass_rerank.batch.arrow import ranked_table
from gliclass_rerank.batch.parts import Rows
from gliclass_rerank.batch.rows import RowRanker
from gliclass_rerank.checks import checked_count
from gliclass_rerank.errors import InputError, shown
from gliclass_rerank.examples.conditions import condition
from gliclass_rerank.reranker import Reranker


class RerankActor:
    """Reranker for `Dataset.map_batches`.

    Args:
        settings: Settings of the `Reranker` by name; None for the defaults. Paths are those of the worker's machine.
        top_k: Hits of a row; None for all.
        where: Required metadata of judged examples, each as KEY=VALUE.
        texts: Put the passages' texts into the hits.

    Raises:
        ConfigError: A setting is unknown or does not apply.
        InputError: `top_k` is below 1, or a condition is not KEY=VALUE.
        CheckpointError: The model cannot be loaded.
    """

    def __init__(
        self,
        settings: Mapping[str, Any] | None = None,  # Any: values of all types
        *,
        top_k: int | None = None,
        where: Sequence[str] = (),
        texts: bool = True,
    ) -> None:
        limit = None if top_k is None else checked_count("top_k", top_k)
        reranker = Reranker(**(settings or {}))
        self._ranker = RowRanker(reranker, top_k=limit, where=condition(where), has_texts=texts)

    def __call__(self, batch: Any) -> Any:  # Any: Arrow is untyped
        """Rank a batch of rows.

        Args:
            batch: Arrow table (`batch_format="pyarrow"`) with `query` and `passages`: strings, or structs with `text`.

        Returns:
            Arrow table with a row for each, in order: all columns but `passages`, and those of the answers. A row that
            cannot be ranked has only an `error`.

        Raises:
            DataError: A column is missing or of another type.
            InputError: The batch is no Arrow table.
        """
        if not hasattr(batch, "schema"):
            raise InputError(f"batches must be Arrow tables, pass `batch_format='pyarrow'`; got {shown(type(batch))}")
        return ranked_table(self._ranker, batch)

    def rank(self, rows: Rows) -> bytes:
        """Rank the rows of a part; content of its file."""
        return rows.ranked(self._ranker)

    def ready(self) -> None:
        """Return when the model is loaded."""
