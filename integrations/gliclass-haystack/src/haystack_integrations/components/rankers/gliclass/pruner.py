"""The pruning component; what it does is in `gliclass_rerank.ContextPruner`.

Saved pipelines name this module and the class in it (`type:`), so neither can be renamed or moved.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Literal

from haystack import Document, component, default_from_dict, default_to_dict

from gliclass_rerank import ContextPruner, PrunedPassage
from gliclass_rerank.adapters import checked_items, owned, owned_reranker, plain_reranker

if TYPE_CHECKING:
    from gliclass_rerank import Reranker  # imports torch

# The constructor's arguments, in its order; `to_dict` writes these and no others.
_SETTINGS: Final = ("reranker", "min_sentence_score", "keep_empty", "gap", "on_error")


@component
class GLiClassContextPruner:
    """Cuts the sentences of documents that do not bear on the query, before the LLM reads them.

    Goes behind a retriever or a ranker, and keeps their order and scores. The model is loaded once, in `warm_up` or at
    the first `run`, and an instance may be shared by any number of threads; its settings do not change.
    """

    def __init__(
        self,
        *,
        reranker: Reranker | Mapping[str, Any] | None = None,  # Any: the settings' values
        min_sentence_score: float | None = None,
        keep_empty: bool = False,
        gap: str = " ",
        on_error: Literal["raise", "keep_all"] = "raise",
    ) -> None:
        """Keep the settings; loads no model.

        Args:
            reranker: A `gliclass_rerank.Reranker`, best the one that ranked, or the settings of one; None for the
                bundled model. It is saved as its settings.
            min_sentence_score: Score from which a sentence is kept, in [0, 1]; None for the core's default.
            keep_empty: Whether documents that would lose all keep their best sentence; else they are dropped.
            gap: Text in place of what was cut between two sentences.
            on_error: `"keep_all"` returns whole documents, with the reason in `meta["prune_error"]`, when model or
                store cannot be loaded or fail, or when the query does not fit; `"raise"` raises. Wrong arguments are
                raised either way.

        Raises:
            ConfigError: A setting is out of range.
        """
        self.reranker = owned_reranker(reranker)
        self.min_sentence_score = min_sentence_score
        self.keep_empty = keep_empty
        self.gap = gap
        self.on_error = on_error
        given = {name: value for name in _SETTINGS if (value := getattr(self, name)) is not None}
        self._pruner = ContextPruner(**given)

    def __setattr__(self, name: str, value: object) -> None:
        # Haystack's own attributes come after construction too. A changed setting would be saved but not used.
        if name in _SETTINGS and name in self.__dict__:
            raise AttributeError(f"`{name}` is fixed; make another pruner, which may be given the same `Reranker`")
        object.__setattr__(self, name, value)  # not `super()`: `@component` makes a new class of this one

    def warm_up(self) -> None:
        """Load the model and open the example store, once, however many threads ask for it.

        Raises:
            ConfigError: A setting that the checkpoint or the machine cannot serve.
            CheckpointError: The checkpoint cannot be loaded, unless `on_error` is `"keep_all"`.
            DataError: The example store cannot be opened, unless likewise.
        """
        self._pruner.warm_up()

    async def warm_up_async(self) -> None:
        """`warm_up` in a worker thread: Haystack would run `warm_up` on the event loop."""
        await asyncio.to_thread(self.warm_up)

    def close(self) -> None:
        """Let go of model and store; the next use loads them again. Given ones stay with their owner's other users."""
        self._pruner.close()

    async def close_async(self) -> None:
        """`close` in a worker thread, because it waits for a model that is being loaded."""
        await asyncio.to_thread(self.close)

    def to_dict(self) -> dict[str, Any]:
        """Serialise the component.

        Returns:
            The constructor's arguments as JSON values.

        Raises:
            ConfigError: The example store of the reranker is an object, not a path.
        """
        kept = {name: getattr(self, name) for name in _SETTINGS}
        return default_to_dict(self, **copy.deepcopy(kept | {"reranker": plain_reranker(self.reranker)}))

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> GLiClassContextPruner:
        """Build the component from what `to_dict` returned.

        Args:
            data: The serialised component; not changed.

        Returns:
            The component; its model is not loaded yet.
        """
        return default_from_dict(cls, {**data, "init_parameters": dict(data.get("init_parameters", {}))})

    @component.output_types(documents=list[Document])
    def run(
        self, query: str, documents: list[Document], min_sentence_score: float | None = None
    ) -> dict[str, list[Document]]:
        """Prune documents.

        Args:
            query: What is searched for; not blank.
            documents: Documents in any order, which is kept; may be empty. Never changed.
            min_sentence_score: As in the constructor; None for the constructor's.

        Returns:
            `documents`: copies with what is left as content; those of which nothing is left, and blank ones, are
            dropped. `meta` has `pruned_chars`, the number of characters cut, and `kept_spans`, first and past-the-last
            characters of what was kept.

        Raises:
            InputError: An argument of the wrong type, or a blank query.
            WindowOverflowError: Query and examples leave no room for a sentence.
            CheckpointError: The checkpoint cannot be loaded.
            DataError: The example store cannot be opened.
            BackendError: The forward pass or the example store failed.
        """
        found = checked_items("documents", documents, Document)
        texts = [document.content or "" for document in found]
        return _copies(found, self._pruner.run(query, texts, min_sentence_score=min_sentence_score))

    @component.output_types(documents=list[Document])
    async def run_async(
        self, query: str, documents: list[Document], min_sentence_score: float | None = None
    ) -> dict[str, list[Document]]:
        """`run`, with the model in a worker thread, so that the event loop is never blocked.

        Args:
            query: As for `run`.
            documents: As for `run`.
            min_sentence_score: As for `run`.

        Returns:
            As for `run`.
        """
        found = checked_items("documents", documents, Document)
        texts = [document.content or "" for document in found]
        return _copies(found, await self._pruner.arun(query, texts, min_sentence_score=min_sentence_score))


def _copies(found: Sequence[Document], passages: Sequence[PrunedPassage]) -> dict[str, list[Document]]:
    documents = [
        replace(found[each.index], content=each.text, meta={**owned(found[each.index].meta), **each.notes()})
        for each in passages
    ]
    return {"documents": documents}
